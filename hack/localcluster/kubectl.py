"""kubectl and helm against the cluster of this cache."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcluster import commands, gobuild, paths


def command(*arguments: str | Path) -> list[str | Path]:
    """Found in the cluster's command folder, since kind builds another set of programs than the own cluster."""
    return [paths.COMMANDS / "kubectl", "--kubeconfig", paths.KUBECONFIG, *arguments]


def run(*arguments: str | Path, stdin: str | None = None) -> str:
    return commands.run(command(*arguments), stdin=stdin)


def get(*arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(run("get", *arguments, "--output", "json"))
    return answer


def apply(*objects: Mapping[str, Any]) -> None:
    content = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    run("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=json.dumps(content))


def link_commands(*programs: gobuild.GoProgram) -> None:
    """One folder for PATH, whatever the hashes in the names of the folders that hold the programs."""
    paths.COMMANDS.mkdir(parents=True, exist_ok=True)
    for program in programs:
        for built in gobuild.build(program).iterdir():
            link = paths.COMMANDS / built.name
            link.unlink(missing_ok=True)
            link.symlink_to(built)
