"""Kubernetes and what belongs to it, and servers for tests: built from Go modules, versions pinned in gomodules/."""

import fcntl
import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from localcluster import commands, paths
from localcluster.errors import ClusterError
from localcluster.progress import step


@dataclass(frozen=True)
class GoProgram:
    """Programs that one go.mod builds; `tool` in Go's own words means all of its tool lines."""

    module: str
    duration: str
    packages: tuple[str, ...] = ("tool",)
    tags: str = ""
    cgo: bool = False
    # Folders of a module that the program reads when it runs, (module, folder): copied beside it.
    beside: tuple[tuple[str, str], ...] = ()
    # Values of Go variables, "package.name=value".
    linked: tuple[str, ...] = ()
    # Go names a program after the folder of its main package, which for etcd is "server".
    renamed: tuple[tuple[str, str], ...] = ()


def _required_version(module: str, requirement: str) -> str:
    text = (paths.GO_MODULES / module / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(requirement)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise ClusterError(f"gomodules/{module}/go.mod does not require {requirement}.")
    return found[1]


def _kubernetes_version() -> tuple[str, ...]:
    """Without it the server calls itself v0.0.0, which kubectl and helm refuse to talk to."""
    version = _required_version("kubernetes", "k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".", 2)
    package = "k8s.io/component-base/version"
    return (
        f"{package}.gitVersion={version}",
        f"{package}.gitMajor={major}",
        f"{package}.gitMinor={minor}",
        f"{package}.gitTreeState=clean",
    )


KUBERNETES = GoProgram("kubernetes", "about 8 minutes the first time", linked=_kubernetes_version())
KUBECTL = GoProgram(
    "kubernetes",
    "about 2 minutes the first time",
    packages=("k8s.io/kubernetes/cmd/kubectl",),
    linked=_kubernetes_version(),
)
ETCD = GoProgram("etcd", "about a minute the first time", renamed=(("server", "etcd"),))
CONTAINERD = GoProgram("containerd", "about 2 minutes the first time", tags="no_btrfs,no_devmapper,no_zfs")
HELM = GoProgram("helm", "about a minute the first time")
COREDNS = GoProgram("coredns", "about 2 minutes the first time")
KIND = GoProgram("kind", "about half a minute the first time")
# An S3 service over a folder, for tests of the api's store.
VERSITYGW = GoProgram("versitygw", "about a minute the first time")
# The metrics API of a cluster's pods, for tests of steps that read it.
METRICS_SERVER = GoProgram("metrics-server", "about 2 minutes the first time")
# A git forge, for tests of what talks to one. Its SQLite is written in C.
GITEA = GoProgram(
    "gitea",
    "about 5 minutes the first time",
    tags="sqlite,sqlite_unlock_notify",
    cgo=True,
    beside=tuple(("code.gitea.io/gitea", folder) for folder in ("templates", "options", "public")),
)


@cache
def build(program: GoProgram) -> Path:
    """The folder with the built programs, named by everything that decides their content."""
    command = _command(program)
    folder = paths.BINARIES / f"{program.module}-{_key(program, command)}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Tests run in several processes, and may want it at once.
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _build(program, command, folder)
    return folder


def _build(program: GoProgram, command: list[str], folder: Path) -> None:
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    with step(f"build {program.module} ({program.duration})") as current:
        commands.run_long(
            [*command, "-v", "-o", f"{unfinished}/", *program.packages],
            current,
            log=f"go-{program.module}",
            extra={"CGO_ENABLED": "1" if program.cgo else "0"},
            folder=paths.GO_MODULES / program.module,
            counted="packages",
        )
    for built, wanted in program.renamed:
        (unfinished / built).rename(unfinished / wanted)
    for module, name in program.beside:
        _copy(program, module, name, unfinished)
    unfinished.rename(folder)


def _copy(program: GoProgram, module: str, name: str, target: Path) -> None:
    listed = ["go", "list", "-m", "-f", "{{.Dir}}", module]
    source = commands.run(listed, folder=paths.GO_MODULES / program.module).strip()
    # Go keeps its modules read-only, and a copy of that could not be deleted.
    shutil.copytree(Path(source) / name, target / name, copy_function=shutil.copyfile)
    for folder, _, _ in os.walk(target / name):
        Path(folder).chmod(0o755)


def _command(program: GoProgram) -> list[str]:
    linked = " ".join(f"-X {assignment}" for assignment in program.linked)
    command = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {linked}".strip()]
    return [*command, "-tags", program.tags] if program.tags else command


def _key(program: GoProgram, command: list[str]) -> str:
    module = paths.GO_MODULES / program.module
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((module / name).read_bytes())
    # The module may ask for a newer Go than the machine's, so its own folder is asked.
    digest.update(commands.run(["go", "env", "GOVERSION", "GOARCH"], folder=module).encode())
    further = (program.cgo, program.beside) if program.cgo or program.beside else ()
    digest.update(repr((command, program.packages, *further)).encode())
    return digest.hexdigest()[:12]
