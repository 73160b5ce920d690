"""The project's own runner, in the same image as the TestRuns but in no cluster."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from localcluster import commands, engine, kind, paths
from localcluster.errors import ClusterError
from localcluster.images import BuiltImage
from realsuites.counts import Counts, NoSummary
from realsuites.projects import Project

USER = 10001  # as in a task's pod; its group has the same number
WORKSPACE = "/workspace"
LONGEST_SECONDS = 600
LAST_LINES = 20
_BUILDAH = ("buildah", "--root", str(paths.BUILDAH_STORAGE), "--runroot", str(paths.BUILDAH_RUNTIME))


def count(project: Project, tree: Path, image: BuiltImage, environment: Mapping[str, str]) -> Counts:
    """Run the suite on a copy of `tree`, read what its runner printed; raises ClusterError where it tells no sum."""
    with tempfile.TemporaryDirectory(prefix="dawg-suite-") as folder:
        workspace = Path(folder) / "workspace"
        shutil.copytree(tree, workspace, symlinks=True)
        _hand_over(workspace)
        with _container(image, workspace, environment) as container:
            done = subprocess.run(
                [*container, "sh", "-e", "-c", project.runner.own],
                env=commands.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LONGEST_SECONDS,
                check=False,
            )
    try:
        counts = project.runner.read(done.stdout)
    except NoSummary as error:
        raise _failure(project, f"{error}", done) from error
    if bool(counts.failed) != bool(done.returncode):
        raise _failure(project, f"it ended with code {done.returncode} and {counts.failed} failed tests", done)
    return counts


def _failure(project: Project, what: str, done: subprocess.CompletedProcess[str]) -> ClusterError:
    lines = [f"    {line}" for line in (done.stdout + done.stderr).splitlines()[-LAST_LINES:]]
    return ClusterError("\n".join([f"The own runner of {project.name} tells no counts: {what}.", *lines]))


def _hand_over(folder: Path) -> None:
    """Who runs a suite owns its files, as in a task's pod; without root the caller runs it, and owns them already."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER, follow_symlinks=False)


def _user() -> str:
    return f"{USER}:{USER}" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"


@contextmanager
def _container(image: BuiltImage, workspace: Path, environment: Mapping[str, str]) -> Iterator[Sequence[str]]:
    """The words before a command that run it in the image."""
    options = ["--user", _user(), "--volume", f"{workspace}:{WORKSPACE}", "--workingdir", WORKSPACE]
    options += [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    if engine.choose() is kind:
        docker = [option.replace("--workingdir", "--workdir") for option in options]
        yield ["docker", "run", "--rm", "--network", "none", *docker, image.reference]
        return
    if not commands.succeeds([*_BUILDAH, "inspect", "--type", "image", image.reference]):
        commands.run([*_BUILDAH, "pull", f"oci:{paths.IMAGES}:{image.reference}"])
    container = commands.run([*_BUILDAH, "from", "--pull-never", image.reference]).strip()
    try:
        yield [*_BUILDAH, "run", "--isolation", "chroot", *options, container, "--"]
    finally:
        commands.run([*_BUILDAH, "rm", container])
