"""Sources: downloaded by the ecosystem's own client, checked against the pinned digest, made into a git repository."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from environment import ensure_venv
from localcluster import commands, paths
from localcluster.errors import ClusterError
from realsuites.projects import GoModule, Project, Sdist

ARCHIVES = paths.CACHE / "suites"
BRANCH = "main"
# The same files give the same commit, whoever makes it and whenever.
_GIT = {
    "GIT_AUTHOR_NAME": "real suites",
    "GIT_AUTHOR_EMAIL": "suites@example.com",
    "GIT_AUTHOR_DATE": "2000-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "real suites",
    "GIT_COMMITTER_EMAIL": "suites@example.com",
    "GIT_COMMITTER_DATE": "2000-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass(frozen=True)
class Checkout:
    """A project's files, and the bare repository with one commit of them."""

    tree: Path
    repository: Path
    commit: str


def check_out(project: Project, folder: Path) -> Checkout:
    """Put the project's files into `folder`/NAME and their repository into `folder`/repositories/NAME.git."""
    tree = folder / project.name
    match project.source:
        case Sdist() as sdist:
            _unpack(_downloaded(project, sdist), tree)
        case GoModule() as module:
            _copy_module(project, module, tree)
    repository = folder / "repositories" / f"{project.name}.git"
    return Checkout(tree, repository, _commit(project, tree, repository))


def _downloaded(project: Project, sdist: Sdist) -> Path:
    archive = ARCHIVES / f"{project.name}-{project.version}-{sdist.sha256[:12]}.tar.gz"
    if not archive.exists():
        ARCHIVES.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=ARCHIVES) as folder:
            _pip_download(project, sdist, Path(folder)).rename(archive)
    if hashlib.sha256(archive.read_bytes()).hexdigest() != sdist.sha256:
        raise ClusterError(f"{archive} is not {project.name} {project.version} as released. Delete it and try again.")
    return archive


def _pip_download(project: Project, sdist: Sdist, folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{project.name}=={project.version} --hash=sha256:{sdist.sha256}\n")
    options: list[str | Path] = [
        "--no-deps",
        "--no-binary",
        ":all:",
        "--require-hashes",
        "--requirement",
        wanted,
        "--dest",
        folder,
    ]
    commands.run([ensure_venv() / "bin" / "python", "-m", "pip", "--quiet", "download", *options])
    (archive,) = folder.glob("*.tar.gz")
    return archive


def _unpack(archive: Path, tree: Path) -> None:
    tree.mkdir(parents=True)
    commands.run(
        ["tar", "--extract", "--file", archive, "--directory", tree, "--strip-components=1", "--no-same-owner"]
    )


def _copy_module(project: Project, module: GoModule, tree: Path) -> None:
    """From Go's own cache, where the module lies unpacked and read-only."""
    described = commands.run(
        ["go", "mod", "download", "-json", f"{module.path}@{project.version}"],
        extra={"GO111MODULE": "on", "GOFLAGS": "-mod=mod"},
        folder=paths.GO_MODULES,
    )
    found: dict[str, str] = json.loads(described)
    if found.get("Sum") != module.sum:
        raise ClusterError(f"{module.path} {project.version} has the sum {found.get('Sum')}, not {module.sum}.")
    shutil.copytree(found["Dir"], tree)
    for path in (tree, *tree.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


def _commit(project: Project, tree: Path, repository: Path) -> str:
    def git(*words: str) -> str:
        return commands.run(["git", f"--git-dir={repository}", f"--work-tree={tree}", *words], extra=_GIT).strip()

    repository.parent.mkdir(parents=True, exist_ok=True)
    commands.run(["git", "init", "--quiet", "--bare", f"--initial-branch={BRANCH}", str(repository)], extra=_GIT)
    # What a release contains is wanted, even where the project's own .gitignore names it.
    git("add", "--all", "--force")
    git("commit", "--quiet", "--message", f"{project.name} {project.version} as released")
    return git("rev-parse", "HEAD")
