"""`dawg watch`: tests of what a developer changes, before any server has it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dawg_orchestrator.client.exits import INTERRUPTED, NOTHING_RAN, USAGE, CommandFailed, exit_code_of
from dawg_orchestrator.client.running import read_duration
from dawg_orchestrator.client.target import Target
from dawg_orchestrator.errors import InvalidSpec

WHERE = "Where the cluster finds the repository"
WHEN = "When, and what a commit's run means"
_DELAY, _MOST_DELAY, _EXPIRES = "1s", "10s", "24h"


class Pending(StrEnum):
    """What a commit is while its run has no verdict."""

    BLOCK = "block"
    ALLOW = "allow"


def watch(
    target: Target,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A git work tree.")],
    workflow: Annotated[str | None, typer.Option(help="Run this Workflow.")] = None,
    param: Annotated[list[str] | None, typer.Option("-p", "--param", help="NAME=VALUE for it. Repeatable.")] = None,
    file: Annotated[
        str | None, typer.Option("-f", "--file", help="Run as this TestRun says, but for its git address and revision.")
    ] = None,
    *,
    once: Annotated[bool, typer.Option("--once", help="Test the commit of HEAD now; its verdict is the exit code.")] = (
        False
    ),
    remote: Annotated[str, typer.Option(help="The remote whose commits are there already.", rich_help_panel=WHERE)] = (
        "origin"
    ),
    url: Annotated[
        str | None, typer.Option(help="Its address as the cluster sees it; else git's.", rich_help_panel=WHERE)
    ] = None,
    credentials: Annotated[
        str | None, typer.Option(metavar="SECRET", help="Secret that opens it.", rich_help_panel=WHERE)
    ] = None,
    debounce: Annotated[
        str, typer.Option(help="How long files must be quiet, as in 2s.", rich_help_panel=WHEN)
    ] = _DELAY,
    max_delay: Annotated[
        str, typer.Option(help="At most so long after the first change.", rich_help_panel=WHEN)
    ] = _MOST_DELAY,
    pending: Annotated[
        Pending, typer.Option(help="block or allow a commit until its verdict is there.", rich_help_panel=WHEN)
    ] = Pending.BLOCK,
    expires: Annotated[str, typer.Option(help="How long MERGE_BLOCKED counts.", rich_help_panel=WHEN)] = _EXPIRES,
) -> None:
    """Test what changes in a work tree: new commits, and files that are not committed yet. Nothing need be pushed."""
    from dawg_orchestrator.client.changes import address_for_the_cluster, seconds, template_of
    from dawg_orchestrator.client.door import opened
    from dawg_orchestrator.client.watchloop import Wanted, Watch
    from dawg_orchestrator.client.worktree import WorkTree

    delay = seconds("--debounce", read_duration("--debounce", debounce), 1.0)
    most = seconds("--max-delay", read_duration("--max-delay", max_delay), 10.0)
    lasts = read_duration("--expires", expires)
    assert lasts is not None  # noqa: S101
    document, namespace = _document(file, target)
    template = template_of(document, workflow, _parameters(param or ()), file or "-f")
    work = WorkTree(path)
    git: dict[str, Any] = {"url": address_for_the_cluster(url or work.remote_url(remote))}
    if credentials is not None:
        git["credentialsSecretRef"] = {"name": credentials}
    teller = _Teller(wants_json=target.wants_json)
    with opened(target) as (cluster, door):
        wanted = Wanted(
            template=template, git=git, namespace=namespace or cluster.namespace, remote=remote,
            block_pending=pending is Pending.BLOCK, lasts=lasts, delay=delay, most_delay=most,
        )  # fmt: skip
        _watch(Watch(work, cluster, door, wanted, teller.tell), once=once)


def _watch(watch: Any, *, once: bool) -> None:
    try:
        if not once:
            watch.forever()
            return
        run = watch.once()
    except KeyboardInterrupt:
        from dawg_orchestrator.client.screen import hint

        hint("no longer watching; runs under way go on")
        raise typer.Exit(INTERRUPTED if once else 0) from None
    raise typer.Exit(exit_code_of(str(run.status.verdict)) if run is not None else NOTHING_RAN)


def _document(file: str | None, target: Target) -> tuple[dict[str, Any] | None, str | None]:
    """The TestRun of a file, and the namespace that it or the person names."""
    if file is None:
        return None, target.namespace
    import yaml

    from dawg_orchestrator.client.inline import in_namespace, manifest_of_documents

    try:
        documents = list(yaml.safe_load_all(Path(file).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidSpec(file, f"cannot be read: {error}") from error
    manifest = manifest_of_documents(documents, file)
    return manifest, in_namespace(manifest, target.namespace, "")["metadata"]["namespace"] or None


def _parameters(settings: Any) -> dict[str, str]:
    given = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise CommandFailed(f"--param: {setting!r} is not NAME=VALUE", USAGE)
        given[name] = value
    return given


class _Teller:
    """Says what happens: a line of text for people, or of JSON for programs."""

    def __init__(self, *, wants_json: bool) -> None:
        self._wants_json = wants_json

    def tell(self, event: str, about: dict[str, Any]) -> None:
        from dawg_orchestrator.client.printing import print_line
        from dawg_orchestrator.client.terminal import one_line

        at = datetime.now(UTC)
        if self._wants_json:
            print_line(json.dumps({"time": f"{at:%Y-%m-%dT%H:%M:%SZ}", "event": event, **about}, ensure_ascii=True))
            return
        for line in _sentences(event, about):
            print_line(f"{at:%H:%M:%SZ} {one_line(line)}")


def _sentences(event: str, about: dict[str, Any]) -> list[str]:
    commit = (about.get("commit") or "")[:10]
    what = f"commit {commit}" if about.get("kind") == "commit" else f"files on top of {commit}"
    if event == "watching":
        return [f"watching {about['path']} at {commit or 'no commit'}"]
    if event == "started":
        return [f"{about['run']} started: {what}"]
    if event == "ended":
        reason = f" ({about['reason']}: {about['message']})" if about.get("reason") else ""
        failed = [f"  {one['task']}: {one['test']}: {one['message']}" for one in about["failures"]]
        return [f"{about['run']} {about['verdict']}{reason}: {what}", *failed]
    if event == "blocked":
        return [f"merge blocked: commit {commit} ({about['reason']})"]
    if event == "allowed":
        return [f"merge allowed: commit {commit}"]
    if event == "problem":
        return [f"problem: {about['message']}"]
    return [f"{about['run']} {event}: {what}"]
