"""A real git forge on this machine: Gitea over SQLite, and what people do there."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import debian
import realparts
from localcluster import gobuild
from repositories import git

_USER = "nobody"  # Gitea refuses to run as root
_ADMIN = "root-of-tests"
_PASSWORD = "tests-only-password"
_WITHIN = 60.0
_CONFIGURATION = """\
RUN_MODE = prod
RUN_USER = {user}
[server]
HTTP_ADDR = {address}
HTTP_PORT = {port}
ROOT_URL = {url}/
DISABLE_SSH = true
OFFLINE_MODE = true
STATIC_ROOT_PATH = {folder}/program
APP_DATA_PATH = {folder}/data
[database]
DB_TYPE = sqlite3
PATH = {folder}/data/gitea.db
[repository]
ROOT = {folder}/repositories
[security]
INSTALL_LOCK = true
[webhook]
ALLOWED_HOST_LIST = {tells}
[indexer]
ISSUE_INDEXER_TYPE = db
[api]
MAX_RESPONSE_ITEMS = 2
[picture]
DISABLE_GRAVATAR = true
[actions]
ENABLED = false
[log]
MODE = console
LEVEL = Warn
ROOT_PATH = {folder}/log
"""


@dataclass(frozen=True)
class Person:
    """A user, with a token that may do what the scopes say."""

    name: str
    token: str


@dataclass(frozen=True)
class GiteaServer:
    """The server; ``admin`` may do everything there."""

    url: str
    admin: Person = field(repr=False)

    def call(self, method: str, path: str, body: object = None, *, by: Person | None = None) -> Any:
        """One request to the API, which must succeed."""
        answer = self.ask(method, path, body, by=by)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def ask(self, method: str, path: str, body: object = None, *, by: Person | None = None) -> httpx.Response:
        """One request to the API, whatever it answers."""
        token = (by or self.admin).token
        headers = {"Authorization": f"token {token}"}
        return httpx.request(
            method, f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=60, trust_env=False
        )

    def make_person(self, name: str, scopes: Sequence[str] = ("all",)) -> Person:
        """A new user."""
        mail = f"{name}@example.org"
        person = {"username": name, "email": mail, "password": _PASSWORD, "must_change_password": False}
        self.call("POST", "/admin/users", person)
        return Person(name, self.make_token(name, scopes))

    def make_token(self, name: str, scopes: Sequence[str]) -> str:
        """A further token of a user, who proves with the password."""
        wanted = {"name": "-".join(scopes).replace(":", "-"), "scopes": list(scopes)}
        address = f"{self.url}/api/v1/users/{name}/tokens"
        answer = httpx.post(address, json=wanted, auth=(name, _PASSWORD), timeout=60, trust_env=False)
        assert answer.is_success, answer.text
        return str(answer.json()["sha1"])

    def make_repository(self, owner: Person, name: str) -> str:
        """An empty repository; gives its full name."""
        self.call("POST", "/user/repos", {"name": name, "default_branch": "main"}, by=owner)
        return f"{owner.name}/{name}"

    def clone_url(self, repository: str, by: Person) -> str:
        """Where a person pushes to."""
        return self.url.replace("http://", f"http://{by.name}:{by.token}@") + f"/{repository}.git"

    def push(self, work: Path, repository: str, refspec: str, *, by: Person) -> None:
        """What a person does with git; Gitea has noticed when it returns, which it does later than git says so."""
        git(work, "push", "--quiet", self.clone_url(repository, by), refspec)
        self._until(lambda: not self.call("GET", f"/repos/{repository}")["empty"], "the repository stays empty")

    def protect(self, repository: str, branch: str, context: str) -> None:
        """Nothing is merged into the branch before the context is a success."""
        rule = {"rule_name": branch, "enable_status_check": True, "status_check_contexts": [context],
                "block_on_outdated_branch": False}  # fmt: skip
        self.call("POST", f"/repos/{repository}/branch_protections", rule)

    def fork(self, repository: str, by: Person) -> str:
        """A fork of a person's own; gives its full name when it is there."""
        self.call("POST", f"/repos/{repository}/forks", {}, by=by)
        return f"{by.name}/{repository.partition('/')[2]}"

    def open_pull_request(self, repository: str, head: str, *, title: str = "change", by: Person) -> int:
        """A pull request into main; the head is a branch, or PERSON:BRANCH."""
        wanted = {"base": "main", "head": head, "title": title}
        return int(self.call("POST", f"/repos/{repository}/pulls", wanted, by=by)["number"])

    def merge(self, repository: str, number: int, by: Person) -> httpx.Response:
        """Try to merge, as soon as Gitea knows whether there are conflicts."""
        place = f"/repos/{repository}/pulls/{number}"
        self._until(lambda: self.call("GET", place)["mergeable"], "the pull request is not mergeable")
        return self.ask("POST", f"/repos/{repository}/pulls/{number}/merge", {"Do": "merge"}, by=by)

    def add_webhook(self, repository: str, url: str, secret: str, events: Sequence[str]) -> None:
        """Tell an address of what happens."""
        config = {"url": url, "content_type": "json", "secret": secret}
        hook = {"type": "gitea", "active": True, "events": list(events), "config": config}
        self.call("POST", f"/repos/{repository}/hooks", hook)

    @staticmethod
    def _until(condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + _WITHIN
        while not condition():
            assert time.monotonic() < deadline, otherwise
            time.sleep(0.05)


def program() -> Path:
    """The folder with Gitea and what it reads."""
    if shutil.which("gcc") is None:
        debian.install("gcc")
    if not Path("/usr/include/stdlib.h").exists():  # which gcc only recommends
        debian.install("libc6-dev")
    return gobuild.build(gobuild.GITEA)


def configuration(
    user: str, url: str, folder: Path, address: str = "127.0.0.1", tells: str = "loopback,private"
) -> str:
    """What Gitea is told; ``folder`` holds all that it reads and writes, ``tells`` says whom its webhooks may reach."""
    port = url.rpartition(":")[2]
    return _CONFIGURATION.format(user=user, url=url, port=port, folder=folder, address=address, tells=tells)


def admin_words() -> tuple[str, ...]:
    """The words of the command that makes the first user, and a token for everything."""
    return (
        "admin", "user", "create", "--admin", "--username", _ADMIN, "--password", _PASSWORD,
        "--email", "root@example.org", "--must-change-password=false", "--access-token",
        "--access-token-scopes", "all",
    )  # fmt: skip


def admin_of(printed: str) -> Person:
    """The first user, from what that command printed."""
    token = next(word for line in printed.splitlines() if "token" in line.lower() for word in line.split()[::-1])
    return Person(_ADMIN, token)


@contextmanager
def serving() -> Iterator[GiteaServer]:
    """The server while the block runs."""
    built = program()
    # Its own user cannot look into folders of tests, nor into the cache of root.
    folder = Path(tempfile.mkdtemp(prefix="dawg-gitea-"))
    try:
        shutil.copytree(built, folder / "program")
        port = realparts.free_port()
        user = _USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        (folder / "app.ini").write_text(configuration(user, f"http://127.0.0.1:{port}", folder))
        for part in (folder, folder / "app.ini"):
            shutil.chown(part, user)
        with _running(folder, user, port):
            url = f"http://127.0.0.1:{port}"
            yield GiteaServer(url, _make_admin(folder, user))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(folder: Path, user: str, port: int) -> Iterator[None]:
    log = folder / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            _command(folder, "web"), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            **_as_user(folder, user),
        )  # fmt: skip
    try:
        realparts.until_listening(process, port, log, _WITHIN)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _make_admin(folder: Path, user: str) -> Person:
    command = _command(folder, *admin_words())
    done = subprocess.run(command, check=False, capture_output=True, text=True, **_as_user(folder, user))
    assert done.returncode == 0, done.stdout + done.stderr
    return admin_of(done.stdout)


def _command(folder: Path, *words: str) -> list[str]:
    return [str(folder / "program" / "gitea"), *words, "--config", str(folder / "app.ini")]


def _as_user(folder: Path, user: str) -> dict[str, Any]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "USER": user, "GITEA_WORK_DIR": str(folder)}
    if os.geteuid() != 0:
        return {"env": environment, "cwd": folder}
    entry = pwd.getpwnam(user)
    return {"env": environment, "cwd": folder, "user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
