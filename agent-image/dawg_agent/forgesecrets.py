"""The forge Secret of the pool that may be used for a repository; its token goes to its own address only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.forge.addresses import host_of
from dawg_orchestrator.forge.credential import ForgeCredential, read_credential

_PUBLIC_API, _PUBLIC_HOST = "api.github.com", "github.com"  # the only forge whose API has a host of its own


class NotAllowed(Exception):
    """No Secret allows it; the text says what would change that."""


def find_credential(
    secrets: Path | None, url: str, what: str, why_not: Callable[[ForgeCredential], str | None]
) -> ForgeCredential:
    """The first Secret that allows it, of those for the host of ``url``; NotAllowed says what each of them is missing.

    ``secrets`` has a folder for each Secret; ``what`` lies at that host, for who reads the error.
    """
    host, missing = host_of(url), []
    folders = sorted(path for path in secrets.iterdir() if path.is_dir()) if secrets and secrets.is_dir() else []
    for folder in folders:
        try:
            credential = read_credential(folder)
        except InvalidSpec as error:
            missing.append(f"Secret {folder.name}: {error}")
            continue
        if _forge_host(credential) != host:
            missing.append(f"Secret {folder.name} is for {_forge_host(credential)}, and {what} at {host}")
        elif (why := why_not(credential)) is not None:
            missing.append(f"Secret {folder.name}: {why}")
        else:
            return credential
    raise NotAllowed("; ".join(missing) or "the pool holds no forge Secret; name one in builtin.forgeSecrets")


def _forge_host(credential: ForgeCredential) -> str:
    host = host_of(credential.url)
    return _PUBLIC_HOST if host == _PUBLIC_API else host
