"""The command `hack/up`."""

import argparse
import shlex
from collections.abc import Sequence

from localcluster import engine, install, node, packages, paths, processes
from localcluster.errors import ClusterError
from localcluster.lock import cluster_lock
from localcluster.progress import say

EXAMPLES = """\
examples:
  hack/up                        build, start, install, and run examples/testrun.yaml
  eval "$(hack/up --env)"        then: kubectl get testruns.dawg.dev
  hack/up --cluster-only         only Kubernetes, with DNS, volumes and the image of the tests' pods
  KUBECONFIG=$(hack/up --print-kubeconfig) kubectl get nodes

On a running cluster it only upgrades what changed. The cluster is kind where Docker answers, else a real single-node
Kubernetes built from Go modules (Linux, as root). Builds are kept in ${DAWG_CACHE:-${XDG_CACHE_HOME:-~/.cache}/dawg}.
"""


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hack/up",
        description="Start a local Kubernetes with DAWG installed, and run the example.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--cluster-only", action="store_true", help="start the cluster, without chart and example")
    only.add_argument("--env", action="store_true", help="print shell lines for eval; starts nothing")
    only.add_argument("--print-kubeconfig", action="store_true", help="print the kubeconfig's path; starts nothing")
    parser.add_argument("--fsync", action="store_true", help="let etcd sync to disk, as production does (benchmarks)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    if options.env or options.print_kubeconfig:
        if not _is_running():
            say("hack/up: No cluster is running. Start one with hack/up.")
            return 1
        print(_shell_lines() if options.env else paths.KUBECONFIG)
        return 0
    try:
        with cluster_lock():
            return _up(options.cluster_only, options.fsync)
    except ClusterError as error:
        say("\n".join([f"hack/up: {error}", *processes.dead_messages()]))
        return 1
    except KeyboardInterrupt:
        say("\nhack/up: interrupted. Run it again to go on from here, or hack/down to remove what was started.")
        return 130


def _up(cluster_only: bool, fsync: bool) -> int:
    packages.check_go()
    chosen = engine.choose()
    chosen.create(fsync)
    passed = True
    if cluster_only:
        install.load_test_image(chosen)
    else:
        missing = install.missing_files()
        if missing:
            names = ", ".join(str(file.relative_to(paths.REPOSITORY)) for file in missing)
            raise ClusterError(f"The cluster is up, but this checkout lacks {names}. Use --cluster-only without them.")
        install.install(chosen)
        passed = install.run_example()
    say('The cluster is up. For kubectl in this shell: eval "$(hack/up --env)"')
    return 0 if passed else 1


def _is_running() -> bool:
    """kind keeps no records of ours: there, the kubeconfig says it."""
    stopped = paths.RECORDS.is_dir() and processes.record_of("kube-apiserver") is None
    return paths.KUBECONFIG.exists() and not stopped


def _shell_lines() -> str:
    lines = [
        f"export KUBECONFIG={shlex.quote(str(paths.KUBECONFIG))}",
        f"export PATH={shlex.quote(str(paths.COMMANDS))}:$PATH",
    ]
    if paths.RECORDS.is_dir():
        lines.append(f"export CONTAINERD_ADDRESS={node.CONTAINERD_SOCKET} CONTAINERD_NAMESPACE={node.CONTAINERS}")
    return "\n".join(lines)
