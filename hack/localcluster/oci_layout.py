"""The images of the cache, in one OCI layout: a layer that several images share is there once, and loaded once."""

import io
import json
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from localcluster import paths

REFERENCE = "org.opencontainers.image.ref.name"
# By this annotation containerd names what it imports.
IMPORTED_AS = "io.containerd.image.name"
VERSIONS_KEPT = 3


def _index_file() -> Path:
    return paths.IMAGES / "index.json"


def _index() -> dict[str, Any]:
    if not _index_file().exists():
        return {"schemaVersion": 2, "manifests": []}
    index: dict[str, Any] = json.loads(_index_file().read_text())
    return index


def _blob(digest: str) -> Path:
    return paths.IMAGES / "blobs" / digest.replace(":", "/")


def _descriptor(reference: str) -> dict[str, Any] | None:
    found = [entry for entry in _index()["manifests"] if entry.get("annotations", {}).get(REFERENCE) == reference]
    return found[-1] if found else None


def contains(reference: str) -> bool:
    return _descriptor(reference) is not None


def _digests(descriptor: dict[str, Any]) -> list[str]:
    """Of the layers, the configuration and the manifest, in the order in which an importer may rely on them."""
    manifest = json.loads(_blob(descriptor["digest"]).read_text())
    layers = [layer["digest"] for layer in manifest["layers"]]
    return [*layers, manifest["config"]["digest"], descriptor["digest"]]


def write_archive(reference: str, present: Collection[str], file: Path) -> None:
    """An archive to import, without the blobs that the importer already has."""
    descriptor = _descriptor(reference)
    if descriptor is None:
        raise KeyError(reference)
    named = {**descriptor, "annotations": {IMPORTED_AS: reference}}
    with tarfile.open(file, "w") as archive:
        _add_json(archive, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        for digest in _digests(descriptor):
            if digest not in present:
                archive.add(_blob(digest), f"blobs/{digest.replace(':', '/')}")
        _add_json(archive, "index.json", {"schemaVersion": 2, "manifests": [named]})


def _add_json(archive: tarfile.TarFile, name: str, content: dict[str, Any]) -> None:
    encoded = json.dumps(content).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(encoded)
    archive.addfile(entry, io.BytesIO(encoded))


def prune(repository: str) -> list[str]:
    """Keep the latest versions of an image, and only the blobs that some image refers to; returns what was dropped."""
    index = _index()
    versions = [entry for entry in index["manifests"] if _repository(entry) == repository]
    dropped = versions[:-VERSIONS_KEPT]
    if not dropped:
        return []
    index["manifests"] = [entry for entry in index["manifests"] if entry not in dropped]
    _index_file().write_text(json.dumps(index))
    needed = {digest for entry in index["manifests"] for digest in _digests(entry)}
    for blob in (paths.IMAGES / "blobs" / "sha256").iterdir():
        if f"sha256:{blob.name}" not in needed:
            blob.unlink()
    return [str(entry["annotations"][REFERENCE]) for entry in dropped]


def _repository(entry: dict[str, Any]) -> str:
    return str(entry.get("annotations", {}).get(REFERENCE, "")).rpartition(":")[0]
