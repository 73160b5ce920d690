"""OpenSSH as tests need it: keys, and a server that lets in who holds one of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import debian


def a_key(path: Path) -> Path:
    """A new private key; the public one is beside it, with the suffix .pub."""
    if shutil.which("ssh-keygen") is None:
        debian.install("openssh-client")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def server_configuration(port: int, host_key: str | Path, authorized: str | Path, more: Mapping[str, str]) -> str:
    """sshd_config of a server that takes keys only, and needs nothing of the machine that it runs on."""
    options = {
        "Port": port, "HostKey": host_key, "AuthorizedKeysFile": authorized, "StrictModes": "no", "UsePAM": "no",
        "PasswordAuthentication": "no", "KbdInteractiveAuthentication": "no", "PidFile": "none", **more,
    }  # fmt: skip
    return "".join(f"{name} {value}\n" for name, value in options.items())
