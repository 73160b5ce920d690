"""Everything that is checked without running the product: the same here, before a commit and in CI."""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from environment import REPOSITORY, EnvironmentUnusable, ensure_venv, tool_environment
from localcluster import gobuild
from localcluster.errors import ClusterError

CHART = REPOSITORY / "charts" / "dawg"
KUBERNETES = "1.37.0"  # what the chart is rendered for; helm's own guess depends on how it was built
_NOISE = re.compile(r"^walk\.go:\d+: found symbolic link in path")
# Put together, so that this file does not find itself.
_MARK = "TO" + "DO"
_SKIPPED = {".git", "node_modules", "__pycache__"}
_RENDERINGS: tuple[tuple[str, ...], ...] = (
    (),
    ("--set", "namespaces={one,two},controller.replicas=2,metrics.serviceMonitor.enabled=true"),
    ("--set", "defaultPool.enabled=false,warmPool.enabled=false,networkPolicy.enabled=false"),
    ("--set", "api.persistence.enabled=false"),
    ("--set", "builtin.enabled=true,builtin.rollback.enabled=true"),
    ("--set", "webhooks.enabled=true,webhooks.senderNamespaceLabels.a=b"),
    ("--set", "api.replicas=2,api.database.secretName=db,api.files.url=s3://bucket,api.files.secretName=keys"),
)
Finding = str | None


class Checks:
    """One run of all checks; a check returns what it found, or None."""

    def __init__(self, venv: Path, *, fix: bool) -> None:
        self._venv = venv
        self._environment = tool_environment(venv)
        self._fix = fix

    def all(self) -> dict[str, Callable[[], Finding]]:
        """Every check by its name, the quick ones first."""
        formatted = ["format"] if self._fix else ["format", "--check", "--diff"]
        # A cached finding outlives a module's move, since only the file itself is looked at: no cache.
        linted = ["check", "--no-cache", *(["--fix"] if self._fix else [])]
        return {
            "layout": self._layout,
            "formatting": lambda: self._tool("ruff", *formatted),
            "lint": lambda: self._tool("ruff", *linted),
            "crds": self._crds,
            "docs": self._docs,
            "imports": lambda: self._tool("lint-imports"),
            "types": lambda: self._tool("mypy"),
            "chart": self._chart,
        }

    def _tool(self, program: str, *words: str) -> Finding:
        return self._run([self._venv / "bin" / program, *words])

    def _run(self, command: Sequence[str | Path]) -> Finding:
        done = subprocess.run(
            command,
            check=False,
            cwd=REPOSITORY,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = [line for line in done.stdout.splitlines() if not _NOISE.match(line)]
        return "\n".join(lines) or f"{command[0]} failed" if done.returncode else None

    def _crds(self) -> Finding:
        return self._run([REPOSITORY / "hack" / "update-crds", *([] if self._fix else ["--check"])])

    def _docs(self) -> Finding:
        return self._run([REPOSITORY / "hack" / "update-docs", *([] if self._fix else ["--check"])])

    def _chart(self) -> Finding:
        helm = _helm()
        if helm is None:
            return "no helm: install Go, with which it is built, or helm 3 (https://helm.sh/docs/intro/install/)"
        with tempfile.TemporaryDirectory() as folder:
            # A home of its own: no plugin and no repository of this machine takes part.
            self._environment |= {"HELM_CONFIG_HOME": folder, "HELM_DATA_HOME": folder, "HELM_CACHE_HOME": folder}
            found = [self._run([helm, "lint", "--strict", "--quiet", CHART, "--kube-version", KUBERNETES])]
            render: list[str | Path] = [helm, "template", "dawg", CHART, "--kube-version", KUBERNETES]
            found += [self._run([*render, *values]) for values in _RENDERINGS]
        return "\n".join(text for text in found if text) or None

    def _layout(self) -> Finding:
        found = [
            f"{root}/__init__.py exists: a package `operator` would hide Python's own; delete it"
            for root in ("operator", "agent-image")
            if (REPOSITORY / root / "__init__.py").exists()
        ]
        for path in _tracked_files():
            try:
                lines = path.read_text().splitlines()
            except (UnicodeDecodeError, OSError):
                continue
            marked = [number for number, line in enumerate(lines, 1) if re.search(rf"\b{_MARK}\b", line)]
            found += [f"{path.relative_to(REPOSITORY)}:{number}: {_MARK}: do it, or open an issue" for number in marked]
        return "\n".join(found) or None


def _tracked_files() -> Iterable[Path]:
    """Files that belong to the project: known to git or about to be; without git all of them."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, check=False, cwd=REPOSITORY, capture_output=True)
    if listed.returncode == 0:
        return [path for name in listed.stdout.decode().split("\0") if name and (path := REPOSITORY / name).is_file()]
    every = (path for path in REPOSITORY.rglob("*") if not _SKIPPED.intersection(path.parts))
    return [path for path in every if path.is_file()]


def _helm() -> Path | None:
    """The pinned helm, built once into the cache; without Go the machine's own."""
    if shutil.which("go") is not None:
        return gobuild.build(gobuild.HELM) / "helm"
    found = shutil.which("helm")
    return Path(found) if found else None


def main(words: Sequence[str]) -> int:
    """Check formatting, style, types, import contracts, crds/, docs/ and the chart."""
    parser = argparse.ArgumentParser(prog="hack/check", description=main.__doc__)
    parser.add_argument(
        "--fix", action="store_true", help="write what can be written: formatting, simple lint, crds/, docs/"
    )
    arguments = parser.parse_args(words)
    try:
        checks = Checks(ensure_venv(), fix=arguments.fix).all()
        failed = [name for name, check in checks.items() if not _passes(name, check)]
    except (EnvironmentUnusable, ClusterError) as error:
        print(error, file=sys.stderr)
        return 1
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _passes(name: str, check: Callable[[], Finding]) -> bool:
    began = time.monotonic()
    finding = check()
    print(f"{'✗' if finding else '✓'} {name} ({time.monotonic() - began:.1f} s)", flush=True)
    if finding:
        print(finding, flush=True)
    return finding is None
