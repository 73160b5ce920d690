"""Runs git: without a shell, a terminal, hooks, filters, submodules or anybody's configuration."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import shlex
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from dawg_agent import askpass
from dawg_orchestrator.resources.reasons import Reason

OUTPUT_LIMIT = 16 * 1024 * 1024  # bytes of stdout that are kept; a list of references may be long
ERROR_LIMIT = 64 * 1024
MESSAGE_LIMIT = 600  # characters of git's words that people get to see
_PASSED_ON = ("PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_CONFIG = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "credential.helper=",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "core.bigFileThreshold=4m",  # larger files go through git in pieces, and are not compared line by line
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
)
_SCP_STYLE = re.compile(r"^(?P<user>[A-Za-z0-9_.-]+)@(?P<host>[A-Za-z0-9_.-]+):(?P<path>.+)$")


class GitError(Exception):
    """There is no tree; ``transient``: another try may help."""

    def __init__(self, reason: Reason, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.transient = transient


@dataclass(frozen=True)
class Access:
    """How to reach one repository: its address without secrets, the environment that carries them, and what to hide."""

    url: str
    environment: dict[str, str]
    hidden: tuple[str, ...] = ()


@dataclass
class Answer:
    """How one git command ended. ``nuls``: how many it wrote, also in what was not kept of its output."""

    code: int
    output: bytes
    error: str
    nuls: int = 0


def _private_file(path: Path, content: bytes, mode: int = 0o600) -> Path:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
        stream.write(content)
    path.chmod(mode)
    return path


def _read(folder: Path | None, name: str) -> bytes | None:
    try:
        return (folder / name).read_bytes() if folder else None
    except (FileNotFoundError, NotADirectoryError):
        return None


def _ssh_access(url: str, secret: Path | None, scratch: Path, environment: dict[str, str]) -> Access:
    key, known_hosts = _read(secret, "ssh-privatekey"), _read(secret, "known_hosts")
    if key is None:
        raise GitError(
            Reason.SOURCE_REFUSED,
            "an ssh address needs a Secret of type kubernetes.io/ssh-auth with ssh-privatekey and known_hosts;"
            " name it in spec.source.git.credentialsSecretRef",
        )
    if not known_hosts or not known_hosts.strip():
        raise GitError(
            Reason.HOST_KEY_UNKNOWN,
            "the git Secret has no known_hosts, so the server cannot be told from an impostor;"
            " add the output of ssh-keyscan, checked, under the key known_hosts",
        )
    options = {
        "IdentityFile": str(_private_file(scratch / "key", key.rstrip(b"\r\n") + b"\n")),
        "UserKnownHostsFile": str(_private_file(scratch / "known_hosts", known_hosts)),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "15",
        "ServerAliveInterval": "15",
    }
    words = ["ssh", "-F", "/dev/null", *(f"-o{name}={value}" for name, value in options.items())]
    # the only line a shell sees; it is made of constants and our own paths
    return Access(url, environment | {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"})


def _https_access(url: str, secret: Path | None, scratch: Path, environment: dict[str, str]) -> Access:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    plain = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    hidden = [parts.netloc.rpartition("@")[0]]
    folder = secret if _read(secret, "password") is not None else None
    if folder is None and secret is not None and _read(secret, "ssh-privatekey") is not None:
        raise GitError(
            Reason.SOURCE_REFUSED,
            "the git Secret holds an ssh key but the address is https;"
            " use a Secret of type kubernetes.io/basic-auth, or the repository's ssh address",
        )
    if folder is None and parts.username:  # a token written into the address: take it out of everybody's sight
        _private_file(scratch / "username", unquote(parts.username).encode())
        _private_file(scratch / "password", unquote(parts.password or "").encode())
        folder = scratch
    if folder is not None:
        script = f"#!{sys.executable}\nimport sys\nfrom dawg_agent.askpass import main\nsys.exit(main())\n"
        helper = _private_file(scratch / "askpass", script.encode(), 0o700)
        python_path = os.pathsep.join(entry for entry in sys.path if entry)
        environment |= {
            "GIT_ASKPASS": str(helper),
            askpass.ORIGIN: f"{parts.scheme}://{host}",
            askpass.FOLDER: str(folder),
            "PYTHONPATH": python_path,
        }
        hidden += [(_read(folder, name) or b"").decode("utf-8", "replace").strip() for name in ("password",)]
    if _read(secret, "ca.crt") is not None and secret is not None:
        environment["GIT_SSL_CAINFO"] = str(secret / "ca.crt")
    return Access(plain, environment, tuple(text for text in hidden if text))


def prepare_access(url: str, secret: Path | None, scratch: Path) -> Access:
    """Make ready to reach a repository. ``scratch`` is a folder that no test can read; raise GitError."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {
        "HOME": str(scratch),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_ALLOW_PROTOCOL": "https:http:ssh",
        "GIT_LFS_SKIP_SMUDGE": "1",
    }
    if url.startswith("-") or re.search(r"[\x00-\x20\x7f]", url):
        raise GitError(Reason.SOURCE_REFUSED, "the repository's address holds characters that no address has")
    if url.startswith("ssh://") or _SCP_STYLE.match(url):
        host = urlsplit(url).hostname if url.startswith("ssh://") else url.partition("@")[2]
        if not host or host.startswith("-"):
            raise GitError(Reason.SOURCE_REFUSED, "the repository's address names no host")
        return _ssh_access(url, secret, scratch, environment)
    if url.startswith(("https://", "http://")):
        return _https_access(url, secret, scratch, environment)
    raise GitError(Reason.SOURCE_REFUSED, "the repository's address must start with https://, http:// or ssh://")


@dataclass
class _Kept:
    """The first bytes of a stream; the rest is read and thrown away."""

    limit: int
    data: bytearray = field(default_factory=bytearray)
    nuls: int = 0

    async def drink(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(65536):
            self.nuls += chunk.count(0)
            self.data += chunk[: max(0, self.limit - len(self.data))]


async def run_git(
    arguments: list[str], access: Access, folder: Path, timeout: float,  # noqa: ASYNC109
    memory: int | None = None, stdin: Path | None = None,
) -> Answer:  # fmt: skip
    """Run one command in a folder; raise GitError when it takes longer than ``timeout`` seconds.

    ``memory`` is the most bytes that git may hold itself; what it maps of its packs does not count. ``stdin`` is a file
    that it reads.
    """
    settings = [word for setting in _CONFIG for word in ("-c", setting)]
    with (stdin or Path(os.devnull)).open("rb") as given:
        process = await asyncio.create_subprocess_exec(
            "git",
            *settings,
            *arguments,
            cwd=folder,
            env=access.environment,
            stdin=given,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    if memory is not None:
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (memory, memory))
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    output, error = _Kept(OUTPUT_LIMIT), _Kept(ERROR_LIMIT)
    try:
        async with asyncio.timeout(timeout):
            await asyncio.gather(output.drink(process.stdout), error.drink(process.stderr))
            code = await process.wait()
    except TimeoutError as late:
        raise GitError(
            Reason.SOURCE_UNREACHABLE, f"git {arguments[0]} was not done after {timeout:.0f} s", transient=True
        ) from late
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Answer(code, bytes(output.data), error.data.decode("utf-8", "replace"), output.nuls)


_CLASSES: tuple[tuple[Reason, bool, tuple[str, ...]], ...] = (
    (
        Reason.HOST_KEY_UNKNOWN,
        False,
        ("host key verification failed", "host key is known", "identification has changed"),
    ),
    (Reason.REVISION_NOT_FOUND, False, ("couldn't find remote ref", "not our ref", "unadvertised object")),
    (
        Reason.SOURCE_REFUSED,
        False,
        (
            "authentication failed",
            "could not read username",
            "could not read password",
            "terminal prompts disabled",
            "permission denied",
            "access denied",
            "returned error: 401",
            "returned error: 403",
            "repository not found",
            "' not found",
            "does not appear to be a git repository",
            "not allowed",
            "invalid credentials",
        ),
    ),
    (Reason.CERTIFICATE_UNKNOWN, False, ("ssl certificate problem", "certificate verif")),
)


def classify(error: str) -> tuple[Reason, bool]:
    """Name what git complains about, and whether another try may help."""
    lowered = error.lower()
    for reason, transient, phrases in _CLASSES:
        if any(phrase in lowered for phrase in phrases):
            return reason, transient
    return Reason.SOURCE_UNREACHABLE, True


_EXPLAINED = {
    Reason.SOURCE_REFUSED: ("the server refuses; let spec.source.git.credentialsSecretRef name a Secret with access"),
    Reason.HOST_KEY_UNKNOWN: ("the server's key is not in known_hosts of the git Secret; check it, and add it there"),
    Reason.CERTIFICATE_UNKNOWN: (
        "the server's certificate is not trusted; if its authority is your own, add it to the git Secret as ca.crt"
    ),
}


def explained(error: str, told: str) -> str:
    """What would change it, before git's words: these may be long, and a status cuts them."""
    plain = _EXPLAINED.get(classify(error)[0])
    return f"{plain} ({told})" if plain else told


def remote_error(answer: Answer, access: Access) -> GitError:
    """What a command has met at the server, with the reason and what would change it."""
    reason, transient = classify(answer.error)
    told = readable(answer.error, access.hidden) or f"git ended with {answer.code}"
    return GitError(reason, f"{access.url}: {explained(answer.error, told)}", transient=transient)


# Of a very long name git's words are cut before they say what is wrong with it.
_NOT_FOR_DISKS = re.compile(r"file name too long|error: invalid path|unable to create [^\n]{3000}", re.IGNORECASE)


def local_error(command: str, answer: Answer, access: Access) -> GitError:
    """What a command has met in a repository that is here."""
    told = readable(answer.error, access.hidden) or f"git ended with {answer.code}"
    if answer.code == -signal.SIGSEGV:  # its stack is full
        why = "git cannot read the tree; it is probably thousands of folders deep"
        return GitError(Reason.TREE_REFUSED, f"git {command} failed: {why}")
    if _NOT_FOR_DISKS.search(answer.error):
        return GitError(Reason.TREE_REFUSED, f"git {command} failed: {told}")
    return GitError(Reason.SOURCE_UNREACHABLE, f"git {command} failed: {told}", transient=True)


def readable(error: str, hidden: tuple[str, ...]) -> str:
    """Make one short line of git's words, without secrets and control characters; of long names both ends are kept.

    Nor is told after how many milliseconds a server could not be reached: what is the same trouble reads the same.
    """
    text = re.sub(r"(https?://)[^/@\s']+@", r"\1", error)
    text = re.sub(r" after \d+ ms\b", "", text)
    for secret in hidden:
        text = text.replace(secret, "***")
    lines = [" ".join(re.sub(r"[\x00-\x1f\x7f]+", " ", line).split()) for line in text.splitlines()]
    lines = [re.sub(r"(\S{60})\S{20,}(\S{20})", r"\1…\2", line) for line in lines]
    return "; ".join(dict.fromkeys(line for line in lines if line))[:MESSAGE_LIMIT]
