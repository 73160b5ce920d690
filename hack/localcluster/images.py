"""Images: the same Dockerfiles that people build with Docker, and the few that only this cluster needs.

An image's tag is a digest of what it is made of: unchanged sources build nothing, and a tag never changes meaning.
"""

import hashlib
import inspect
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from localcluster import commands, gobuild, oci_layout, paths
from localcluster.image_inputs import DIGEST_LENGTH, image_digest
from localcluster.progress import step

SUITE = "bookworm"
# What python:3.11-slim-bookworm has, and what our images add to it anyway.
BASE_PACKAGES = ("ca-certificates", "git", "openssh-client", "python3", "python3-pip", "python3-venv")
UNREAD = ("usr/share/doc", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man")
FAST_COMPRESSION = ("--compression-format", "zstd", "--compression-level", "1")
BASE_NAME = "dawg-base"
# A build trusts the certificates, and asks the package index, that this machine does.
TRUSTED = ("/etc/ssl/certs", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/etc/pip.conf")


@dataclass(frozen=True)
class Image:
    """A Dockerfile of this repository, built with the repository's root as context."""

    name: str
    dockerfile: Path

    def tag(self, arguments: Mapping[str, str]) -> str:
        return image_digest(self.dockerfile, paths.REPOSITORY, arguments)


OPERATOR = Image("dawg-operator", paths.REPOSITORY / "operator" / "Dockerfile")
AGENT = Image("dawg-agent", paths.REPOSITORY / "agent-image" / "Dockerfile")
TEST = Image("dawg-test", paths.REPOSITORY / "tests" / "images" / "test" / "Dockerfile")
SERVICES = Image("dawg-services", paths.REPOSITORY / "tests" / "images" / "services" / "Dockerfile")


@dataclass(frozen=True)
class BuiltImage:
    """An image by its full name, once it is built."""

    repository: str
    tag: str

    @property
    def reference(self) -> str:
        return f"{self.repository}:{self.tag}"


def _buildah(*arguments: str | Path) -> list[str | Path]:
    return ["buildah", "--root", paths.BUILDAH_STORAGE, "--runroot", paths.BUILDAH_RUNTIME, *arguments]


def build(image: Image) -> BuiltImage:
    arguments = {"BASE": base().reference}
    built = BuiltImage(f"localhost/{image.name}", image.tag(arguments))
    if oci_layout.contains(built.reference):
        return built
    options = ["--isolation", "chroot", "--network", "host", "--layers"]
    for name, value in arguments.items():
        options += ["--build-arg", f"{name}={value}"]
    for path in TRUSTED:
        if Path(path).exists():
            options += ["--volume", f"{path}:{path}:ro"]
    options += ["--file", str(image.dockerfile), "--tag", built.reference]
    with step(f"build image {image.name}") as current:
        command = _buildah("build", *options, paths.REPOSITORY)
        commands.run_long(command, current, log=f"image-{image.name}")
        _keep(built)
    return built


@cache
def base() -> BuiltImage:
    """A Debian with Python, standing in for python:3.11-slim-bookworm where no registry answers."""
    recipe = repr((SUITE, BASE_PACKAGES, inspect.getsource(_finish_base)))
    built = BuiltImage(f"localhost/{BASE_NAME}", hashlib.sha256(recipe.encode()).hexdigest()[:DIGEST_LENGTH])
    if oci_layout.contains(built.reference):
        if not commands.succeeds(_buildah("inspect", "--type", "image", built.reference)):
            commands.run(_buildah("pull", f"oci:{paths.IMAGES}:{built.reference}"))
        return built
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    with (
        step("bootstrap the base image from Debian's packages") as current,
        tempfile.TemporaryDirectory(dir=paths.CACHE, prefix="debootstrap-") as folder,
    ):
        root = Path(folder) / "root"
        include = f"--include={','.join(BASE_PACKAGES)}"
        command = ["debootstrap", "--variant=minbase", include, SUITE, str(root), *_mirror()]
        commands.run_long(command, current, log="debootstrap")
        _finish_base(root)
        _commit_folder(root, built, "--cmd", "python3")
    return built


def _mirror() -> list[str]:
    """The mirror that this machine's apt uses for the suite; none means debootstrap's own default."""
    wanted = ["Origin: Debian", f"Codename: {SUITE}", "Component: main", "Identifier: Packages"]
    if commands.find("apt-get") is None:
        return []
    found = commands.run(["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted]).split()
    return found[:1]


def _finish_base(root: Path) -> None:
    """Make pip and python behave as in the image that this one stands in for."""
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for unneeded in ("var/cache/apt/archives", "var/lib/apt/lists", *UNREAD):
        shutil.rmtree(root / unneeded, ignore_errors=True)
    for needed in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        (root / needed).mkdir(parents=True)


def pause() -> BuiltImage:
    """What holds a pod's namespaces together; every container runtime needs one."""
    source = paths.REPOSITORY / "hack" / "localcluster" / "pause" / "pause.c"
    tag = hashlib.sha256(source.read_bytes()).hexdigest()[:DIGEST_LENGTH]
    built = BuiltImage("localhost/dawg-pause", tag)
    if not oci_layout.contains(built.reference):
        paths.CACHE.mkdir(parents=True, exist_ok=True)
        with step("build image dawg-pause"), tempfile.TemporaryDirectory(dir=paths.CACHE) as folder:
            root = Path(folder)
            commands.run(["gcc", "-Os", "-static", "-s", "-o", root / "pause", source])
            _commit_folder(root, built, "--entrypoint", '["/pause"]', "--user", "65535:65535")
    return built


def coredns() -> BuiltImage:
    program = gobuild.build(gobuild.COREDNS) / "coredns"
    built = BuiltImage("localhost/dawg-coredns", program.parent.name.removeprefix("coredns-"))
    if not oci_layout.contains(built.reference):
        with step("build image dawg-coredns"), tempfile.TemporaryDirectory(dir=paths.CACHE) as folder:
            shutil.copy(program, folder)
            _commit_folder(Path(folder), built, "--entrypoint", '["/coredns"]', "--user", "65532:65532")
    return built


def _commit_folder(root: Path, built: BuiltImage, *configuration: str) -> None:
    """An image whose only layer is a folder."""
    root.chmod(0o755)
    container = commands.run(_buildah("from", "scratch")).strip()
    try:
        commands.run(_buildah("add", "--quiet", container, root, "/"))
        commands.run(_buildah("config", *configuration, container))
        commands.run(_buildah("commit", "--quiet", container, built.reference))
    finally:
        commands.run(_buildah("rm", container))
    _keep(built)


def _keep(built: BuiltImage) -> None:
    """Copy the image into the cache's layout; compressed quickly, since it never travels further than this disk."""
    destination = f"oci:{paths.IMAGES}:{built.reference}"
    commands.run(_buildah("push", "--quiet", *FAST_COMPRESSION, built.reference, destination))
    for dropped in oci_layout.prune(built.repository):
        commands.succeeds(_buildah("rmi", dropped))
