"""The command `hack/down`."""

import argparse
import shutil
from collections.abc import Sequence

from localcluster import leftovers, paths
from localcluster.engine import ENGINES
from localcluster.errors import ClusterError
from localcluster.lock import cluster_lock
from localcluster.progress import say, step

EXAMPLES = """\
examples:
  hack/down                      stop the cluster and delete its state; the next hack/up starts a fresh one in seconds
  hack/down --cache              also delete what was built; the next hack/up takes minutes
"""


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hack/down",
        description="Stop the local cluster and leave nothing of it running, mounted or routed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cache", action="store_true", help="delete the build cache as well")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    try:
        with cluster_lock():
            return _down(options.cache)
    except ClusterError as error:
        say(f"hack/down: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nhack/down: interrupted. Run it again to remove the rest.")
        return 130


def _down(cache: bool) -> int:
    for engine in ENGINES:
        if engine.exists():
            with step("stop the cluster and delete its state"):
                engine.delete()
    if cache and paths.CACHE.exists():
        with step(f"delete the build cache {paths.CACHE}"):
            shutil.rmtree(paths.CACHE)
    left = leftovers.remaining()
    if left:
        say("hack/down: these are still there:\n" + "\n".join(f"  {thing}" for thing in left))
        return 1
    say(f"Nothing of the cluster is left: no process, mount, network or cgroup. {_kept(cache)}")
    return 0


def _kept(cache: bool) -> str:
    return "The build cache is deleted too." if cache else f"The build cache stays in {paths.CACHE}."
