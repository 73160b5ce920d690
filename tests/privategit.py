"""A private repository in the cluster, on a git server that opens to a password over https and to a key over ssh."""

from __future__ import annotations

import base64
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster_at_hand import JsonObject, Kubectl
from localcluster.certificates import OPENSSL_CONFIGURATION
from openssh import a_key, server_configuration
from realsuites.gitserver import FOLDER, KEYS, NAME, PROGRAM, Door, host_of, serving
from repositories import Repository, new_repository

USER = "robot"
HTTPS = Door("https", 443, 8443, (*PROGRAM, "8443", "--tls", KEYS, "--basic-auth", KEYS))
SSH = Door("ssh", 22, 2222, ("/usr/sbin/sshd", "-D", "-e", "-f", f"{KEYS}/sshd_config"))


@dataclass(frozen=True)
class Way:
    """An address of the repository, the keys of a Secret that open it, and such keys that do not."""

    host: str
    url: str
    secret_type: str
    keys: Mapping[str, str]
    refused: Mapping[str, str]  # a credential that the server does not know
    untrusting: Mapping[str, str]  # what tells this server from others, but another's

    def secret(self, name: str, changed: Mapping[str, str] | None = None) -> JsonObject:
        """The Secret, for this server only."""
        metadata = {"name": name, "annotations": {"dawg.dev/hosts": self.host}}
        content = {**self.keys, **(changed or {})}
        return {"apiVersion": "v1", "kind": "Secret", "type": self.secret_type, "metadata": metadata,
                "stringData": content}  # fmt: skip

    def traces(self, changed: Mapping[str, str] | None = None) -> list[str]:
        """What is nowhere but where the credential is: the password, or the lines of the key that are its own."""
        keys = {**self.keys, **(changed or {})}
        if "ssh-privatekey" in keys:
            return keys["ssh-privatekey"].splitlines()[3:5]
        sent = base64.b64encode(f"{USER}:{keys['password']}".encode()).decode()
        return [keys["password"], sent]


@dataclass(frozen=True)
class PrivateGit:
    """The server, and the repository as it was when it came up."""

    namespace: str
    repository: Repository
    ways: Mapping[str, Way]

    def move(self, branch: str, to: str) -> None:
        """What a forced push does."""
        inside = ["exec", f"deployment/{NAME}", "--container", SSH.name, "--"]
        Kubectl(self.namespace)(*inside, "git", "-C", f"{FOLDER}/shop.git", "branch", "--force", branch, to)


@contextmanager
def private_git(folder: Path, image: str) -> Iterator[PrivateGit]:
    """A server with a repository, until the block is left; the image is that of the tests."""
    namespace = f"dawg-git-{secrets.token_hex(3)}"
    repository = new_repository(folder)
    https, behind_https = _https(folder, host_of(namespace))
    ssh, behind_ssh = _ssh(folder, host_of(namespace))
    with serving(repository.bare.parent, image, namespace, (HTTPS, SSH), {**behind_https, **behind_ssh}):
        yield PrivateGit(namespace, repository, {"https": https, "ssh": ssh})


def _https(folder: Path, host: str) -> tuple[Way, dict[str, str]]:
    """The way, and what the server has for it."""
    (folder / "openssl.cnf").write_text(OPENSSL_CONFIGURATION)
    authority, other = (_authority(folder, name) for name in ("authority", "other"))
    key, certificate = _certificate(
        folder, "server", "basicConstraints=critical,CA:FALSE", f"subjectAltName=DNS:{host}", signer="authority"
    )
    login = {"username": USER, "password": secrets.token_hex(16)}
    way = Way(
        host=host,
        url=f"https://{host}/shop.git",
        secret_type="kubernetes.io/basic-auth",
        keys={**login, "ca.crt": authority},
        refused={"password": secrets.token_hex(16)},
        untrusting={"ca.crt": other},
    )
    return way, {"tls.key": key, "tls.crt": certificate, **login}


def _authority(folder: Path, name: str) -> str:
    return _certificate(folder, name, "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")[1]


def _certificate(folder: Path, name: str, *extensions: str, signer: str = "") -> tuple[str, str]:
    """A key and its certificate, which signs itself where nobody else does."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    signed = ["-CA", folder / f"{signer}.crt", "-CAkey", folder / f"{signer}.key"] if signer else []
    subprocess.run(
        ["openssl", "req", "-x509", "-days", "2", "-subj", f"/CN={name}", "-config", folder / "openssl.cnf",
         "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", certificate,
         *(word for extension in extensions for word in ("-addext", extension)), *signed],
        check=True, capture_output=True,
    )  # fmt: skip
    return key.read_text(), certificate.read_text()


def _ssh(folder: Path, host: str) -> tuple[Way, dict[str, str]]:
    """The way, and what the server has for it."""
    server, user, stranger = (a_key(folder / name) for name in ("host_key", "user", "stranger"))
    way = Way(
        host=host,
        url=f"git@{host}:shop.git",
        secret_type="kubernetes.io/ssh-auth",
        keys={"ssh-privatekey": user.read_text(), "known_hosts": f"{host} {_public(server)}"},
        refused={"ssh-privatekey": stranger.read_text()},
        untrusting={"known_hosts": f"{host} {_public(stranger)}"},
    )
    return way, {
        "host_key": server.read_text(),
        "authorized_keys": _public(user),
        "sshd_config": server_configuration(SSH.listens, f"{KEYS}/host_key", f"{KEYS}/authorized_keys", {}),
    }


def _public(key: Path) -> str:
    return key.with_suffix(".pub").read_text()
