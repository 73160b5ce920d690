"""The command `hack/test`: brings up what the tiers need, runs them one after the other, says how long each took."""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from environment import REPOSITORY, EnvironmentUnusable, ensure_venv, tool_environment

EXAMPLES = """\
examples:
  hack/test                       every tier; starts the local cluster (hack/up) if it does not run
  hack/test unit                  no cluster needed, seconds
  hack/test e2e -- -k scaling     arguments after -- go to pytest

tiers: unit (pure), simulation (the core under seeded faults, in its own time, and under made-up nonsense), integration
(real apiserver, database, git), e2e (the installed product on the local cluster), chaos (the same while things break)
"""


@dataclass(frozen=True)
class Tier:
    """A folder below tests/, and what must run before it does."""

    name: str
    needs: str = ""  # '' nothing, 'cluster' Kubernetes alone, 'product' the chart installed
    options: tuple[str, ...] = ()  # for pytest
    command: tuple[str, ...] = ()  # of hack/, instead of pytest
    processes: int = 1  # that share its folders: half of a quick tier's time goes by before its first test
    hash_seed: str = "random"  # Python's own, which orders sets


TIERS = (
    Tier("unit", processes=2),
    Tier("simulation", hash_seed="0"),  # as in hack/chaos, so that a seed tells the same history
    Tier("integration", "cluster", options=("--numprocesses", "2", "--dist", "loadfile")),
    Tier("e2e", "product"), Tier("chaos", "product", command=("chaos", "--short")),
)  # fmt: skip


def _parse(arguments: Sequence[str]) -> tuple[list[Tier], list[str]]:
    ours, _, theirs = (list(arguments), None, []) if "--" not in arguments else _split(arguments)
    parser = argparse.ArgumentParser(
        prog="hack/test", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run the tests.",
    )  # fmt: skip
    names = [tier.name for tier in TIERS]
    parser.add_argument("tiers", nargs="*", metavar="TIER", help=f"which of {', '.join(names)}; all when none is named")
    options = parser.parse_args(ours)
    unknown = [name for name in options.tiers if name not in names]
    if unknown:
        parser.error(f"no tier is named {unknown[0]!r}; there are {', '.join(names)}")
    return [tier for tier in TIERS if not options.tiers or tier.name in options.tiers], theirs


def _split(arguments: Sequence[str]) -> tuple[list[str], None, list[str]]:
    place = list(arguments).index("--")
    return list(arguments[:place]), None, list(arguments[place + 1 :])


def main(arguments: Sequence[str]) -> int:
    """0 when every tier passed, else 1; a tier without tests has failed."""
    tiers, pytest_arguments = _parse(arguments)
    try:
        venv = ensure_venv()
    except EnvironmentUnusable as error:
        print(f"hack/test: {error}", file=sys.stderr)
        return 1
    environment = tool_environment(venv)
    took: list[tuple[str, float, bool]] = []
    for tier in tiers:
        started = time.monotonic()
        passed = _bring_up(tier, environment) and _run(tier, venv, environment, pytest_arguments)
        took.append((tier.name, time.monotonic() - started, passed))
    for name, seconds, passed in took:
        print(f"{name:<12} {'passed' if passed else 'FAILED'} {seconds:7.1f} s", flush=True)
    return 0 if all(passed for _, _, passed in took) else 1


def _bring_up(tier: Tier, environment: dict[str, str]) -> bool:
    """Start what the tier needs, and let it find the cluster."""
    if not tier.needs:
        return True
    command = [str(REPOSITORY / "hack" / "up"), *(["--cluster-only"] if tier.needs == "cluster" else [])]
    print(f"== {tier.name}: {' '.join(['hack/up', *command[1:]])}", flush=True)
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        return False
    lines = subprocess.run([command[0], "--env"], capture_output=True, text=True, check=True).stdout
    shell = subprocess.run(
        ["/bin/sh", "-c", f'{lines}\nprintf "%s\\n%s\\n%s" "$KUBECONFIG" "$PATH" "$CONTAINERD_ADDRESS"'],
        capture_output=True, text=True, check=True, env={**os.environ, "PATH": environment["PATH"]},
    )  # fmt: skip
    environment["KUBECONFIG"], environment["PATH"], environment["CONTAINERD_ADDRESS"] = shell.stdout.split("\n")
    return True


def _run(tier: Tier, venv: Path, environment: dict[str, str], pytest_arguments: Sequence[str]) -> bool:
    print(f"== {tier.name}", flush=True)
    environment = {**environment, "PYTHONHASHSEED": tier.hash_seed}
    if tier.command:
        command = [str(REPOSITORY / "hack" / tier.command[0]), *tier.command[1:]]
        return _run_together([command], environment)
    pytest = [str(venv / "bin" / "python"), "-m", "pytest", "-p", "no:cacheprovider", *tier.options]
    # Arguments may choose tests of which one process would have none.
    shares = _shares(REPOSITORY / "tests" / tier.name, 1 if pytest_arguments else tier.processes)
    return _run_together([[*pytest, *share, *pytest_arguments] for share in shares], environment)


def _shares(folder: Path, count: int) -> list[list[str]]:
    """The tests of a folder in so many parts."""
    if count == 1:
        return [[str(folder)]]
    parts = sorted(str(part) for part in folder.iterdir() if part.is_dir() or part.name.startswith("test_"))
    return [parts[number::count] for number in range(count)]


def _run_together(commands: Sequence[Sequence[str]], environment: dict[str, str]) -> bool:
    """Whether all succeed. What the first one prints is seen at once, of the others when they have ended."""
    with contextlib.ExitStack() as stack:
        others = []
        for command in commands[1:]:
            output = stack.enter_context(tempfile.TemporaryFile("w+"))
            process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output)
            others.append((stack.enter_context(process), output))
            stack.callback(process.kill)
        codes = [subprocess.run(commands[0], cwd=REPOSITORY, env=environment, check=False).returncode]
        for process, output in others:
            codes.append(process.wait())
            output.seek(0)
            print(output.read(), end="", flush=True)
    return not any(codes)
