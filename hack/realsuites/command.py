"""The command `hack/real-suites`."""

import argparse
import secrets
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

from environment import EnvironmentUnusable
from localcluster import commands, engine, kubectl, packages, paths
from localcluster.errors import ClusterError
from localcluster.images import BuiltImage, Image
from localcluster.install import RESOURCE
from localcluster.lock import cluster_lock
from localcluster.progress import say, step
from realsuites import gitserver, outside, testruns
from realsuites.comparison import Comparison, as_json, table
from realsuites.counts import Counts
from realsuites.projects import PROJECTS, Project
from realsuites.sources import Checkout, check_out
from realsuites.testruns import Shape

SUITES = Image("dawg-suites", paths.REPOSITORY / "tests" / "images" / "suites" / "Dockerfile")
EXAMPLES = """\
examples:
  hack/real-suites                           every project: plain, in shards, in a warm pool, with a matrix
  hack/real-suites --quick                   without the matrix
  hack/real-suites --project attrs --project uuid
  hack/real-suites --output json | jq '.[] | {project, equal}'

Needs the cluster of hack/up. Exit code 0: all counts are equal; 1: some differ, or something went wrong.
"""


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hack/real-suites",
        description="Run real projects' test suites by their own runners and by TestRuns, and compare the counts.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [project.name for project in PROJECTS]
    parser.add_argument("--project", action="append", choices=names, metavar="NAME", help=f"only: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="no matrix")
    parser.add_argument("--output", choices=["table", "json"], default="table", help="how to print (default: table)")
    parser.add_argument("--keep", action="store_true", help="leave the git server running, to look around")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    projects = [project for project in PROJECTS if not options.project or project.name in options.project]
    shapes = [shape for shape in Shape if shape is not Shape.MATRIX or not options.quick]
    # Whoever ends this command early wants nothing to go on in the cluster.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        comparisons = _compare(projects, shapes, keep=options.keep)
    except (ClusterError, EnvironmentUnusable) as error:
        say(f"hack/real-suites: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nhack/real-suites: interrupted; what ran in the cluster is cancelled.")
        return 130
    print(as_json(comparisons) if options.output == "json" else table(comparisons))
    return 1 if any(comparison.differences() for comparison in comparisons) else 0


def _compare(projects: Sequence[Project], shapes: Sequence[Shape], *, keep: bool) -> list[Comparison]:
    _check_cluster()
    image = _image()
    batch = secrets.token_hex(3)
    with tempfile.TemporaryDirectory(prefix="dawg-suites-") as folder:
        sources = {project.name: _source(project, Path(folder)) for project in projects}
        repositories = Path(folder) / "repositories"
        with gitserver.serving(repositories, image.reference, f"dawg-suites-{batch}", keep=keep) as host:
            address = f"http://{host}"
            wanted = {
                (project.name, shape): testruns.manifest(project, shape, f"{address}/{project.name}.git", image, batch)
                for project in projects
                for shape in shapes
            }
            names = {key: manifest["metadata"]["name"] for key, manifest in wanted.items()}
            try:
                testruns.create([testruns.warm_pool(image, batch), *wanted.values()])
                # Meanwhile, since the runs take longest.
                own = {project.name: _own(project, sources[project.name], image, shapes) for project in projects}
                ended = testruns.wait(batch, names.values())
            except BaseException:
                testruns.cancel(batch)
                raise
            finally:
                testruns.delete_pool(batch)
    return [
        Comparison(
            project=project,
            commit=sources[project.name].commit,
            own=own[project.name],
            runs={shape: ended[names[project.name, shape]] for shape in shapes},
        )
        for project in projects
    ]


def _check_cluster() -> None:
    packages.check_go()
    if not paths.KUBECONFIG.exists() or not commands.succeeds(kubectl.command("get", "crd", RESOURCE)):
        raise ClusterError("No cluster with DAWG is running. Start one with hack/up.")


def _image() -> BuiltImage:
    with cluster_lock():
        chosen = engine.choose()
        image = chosen.build(SUITES)
        chosen.load([image])
    return image


def _source(project: Project, folder: Path) -> Checkout:
    with step(f"get {project.name} {project.version}"):
        return check_out(project, folder)


def _own(project: Project, source: Checkout, image: BuiltImage, shapes: Sequence[Shape]) -> dict[str, Counts]:
    """The runner's counts by the value of the matrix; without a matrix only those of the first value."""
    axis = project.runner.axis
    values = axis.values if Shape.MATRIX in shapes else axis.values[:1]
    counted = {}
    for value in values:
        with step(f"run {project.name}'s own runner with {axis.name} {value}") as current:
            environment = {f"DAWG_MATRIX_{axis.name.upper()}": value}
            counted[value] = outside.count(project, source.tree, image, environment)
            current.note = f"{counted[value]} passed/failed/skipped"
    return counted
