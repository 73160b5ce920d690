"""`dawg run`, `wait` and `cancel`: what people do, through the Kubernetes API and with their own rights."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dawg_orchestrator.client.exits import INTERRUPTED, USAGE, CommandFailed
from dawg_orchestrator.client.target import Target
from dawg_orchestrator.errors import InvalidSpec

if TYPE_CHECKING:
    from dawg_orchestrator.client.connection import Cluster
    from dawg_orchestrator.client.testruns import Run

INLINE = "A run from flags instead of a file"

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the TestRun.")]
Timeout = Annotated[
    str | None, typer.Option("--timeout", help="How long to follow, as in 90s or 10m; then exit code 4.")
]


def run(
    target: Target,
    command: Annotated[list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="What to run.")] = None,
    file: Annotated[str | None, typer.Option("-f", "--file", help="A TestRun in YAML or JSON; - is stdin.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the run to its verdict.")] = True,
    timeout: Timeout = None,
    image: Annotated[str | None, typer.Option(help="Image; else the pool's.", rich_help_panel=INLINE)] = None,
    name: Annotated[str | None, typer.Option(help="Name; else made up.", rich_help_panel=INLINE)] = None,
    pool: Annotated[str | None, typer.Option(help="AgentPool; else default.", rich_help_panel=INLINE)] = None,
    priority: Annotated[str | None, typer.Option(help="critical, high, medium or low.", rich_help_panel=INLINE)] = None,
    env: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, or NAME to pass it on. Repeatable.", rich_help_panel=INLINE)
    ] = None,
    junit: Annotated[
        list[str] | None, typer.Option(help="Glob of JUnit reports. Repeatable.", rich_help_panel=INLINE)
    ] = None,
    git: Annotated[str | None, typer.Option(metavar="URL", help="Repository to test.", rich_help_panel=INLINE)] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.", rich_help_panel=INLINE)] = None,
    task_timeout: Annotated[
        str | None, typer.Option(help="The run's own limit, as in 10m; then TimedOut.", rich_help_panel=INLINE)
    ] = None,
) -> None:
    """Start a TestRun and follow it to its verdict, which is the exit code."""
    from dawg_orchestrator.client import inline

    limit = read_duration("--timeout", timeout)
    read_duration("--task-timeout", task_timeout)
    flags = inline.InlineRun(
        image=image, command=command or (), name=name, pool=pool, priority=priority, env=env or (), junit=junit or (),
        git_url=git, revision=revision, task_timeout=task_timeout,
    )  # fmt: skip
    manifest = _from_file(file, flags) if file is not None else inline.manifest_of(flags, os.environ)

    start_run(target, manifest, limit, wait=wait)


def wait(target: Target, name: Name, timeout: Timeout = None) -> None:
    """Follow a TestRun to its verdict, which is the exit code."""
    limit = read_duration("--timeout", timeout)

    from dawg_orchestrator.client.door import opened
    from dawg_orchestrator.client.recorded import find_run
    from dawg_orchestrator.client.screen import hint

    with opened(target) as (cluster, door):
        found, exists = find_run(cluster, door, cluster.namespace, name)
        if not exists:
            hint(f"TestRun {found.namespace}/{name} is deleted; this is what history has of it")
        follow_run(target, cluster, found, limit)


def cancel(target: Target, name: Name) -> None:
    """Cancel a TestRun: its tasks are stopped, its verdict is Cancelled."""
    from dawg_orchestrator.client.connection import connect
    from dawg_orchestrator.client.testruns import cancel_run, get_run

    with connect(target) as cluster:
        found = get_run(cluster, cluster.namespace, name)
        if found.status.verdict is not None:
            say(target, found, f"testrun.dawg.dev/{name} has already ended {found.status.verdict}")
            return
        say(target, cancel_run(cluster, cluster.namespace, name), f"testrun.dawg.dev/{name} is being cancelled")


def start_run(target: Target, manifest: dict[str, Any], limit: timedelta | None, *, wait: bool) -> None:
    """Create the run, and follow it to its verdict or say that it is there."""
    from dawg_orchestrator.client.connection import connect
    from dawg_orchestrator.client.inline import in_namespace

    with connect(target) as cluster:
        create_and_follow(
            target, cluster, in_namespace(manifest, target.namespace, cluster.namespace), limit, wait=wait
        )


def create_and_follow(
    target: Target, cluster: Cluster, manifest: dict[str, Any], limit: timedelta | None, *, wait: bool
) -> None:
    """The same for who is connected already, with a manifest that names its namespace."""
    from dawg_orchestrator.client.testruns import create_run

    started = create_run(cluster, manifest)
    if wait:
        follow_run(target, cluster, started, limit)
    say(target, started, f"testrun.dawg.dev/{started.name} created")


def follow_run(target: Target, cluster: Cluster, found: Run, limit: timedelta | None) -> None:
    """Follow and exit. Ctrl-C ends the following, not the run."""
    from dawg_orchestrator.client.following import follow, how_to_go_on
    from dawg_orchestrator.client.printing import print_json
    from dawg_orchestrator.client.screen import hint, screen_for

    screen = screen_for(wants_json=target.wants_json)
    try:
        code, last = follow(cluster, found, screen, limit)
    except KeyboardInterrupt:
        screen.finish(None)
        hint(f"the run goes on. {how_to_go_on(found)}")
        raise typer.Exit(INTERRUPTED) from None
    except BaseException:
        screen.finish(None)
        raise
    if target.wants_json and last is not None:
        print_json(last.raw)
    raise typer.Exit(code)


def _from_file(file: str, flags: Any) -> dict[str, Any]:
    import yaml

    from dawg_orchestrator.client.inline import InlineRun, manifest_of_documents

    if flags != InlineRun(image=None, command=()):
        raise CommandFailed("-f takes the whole run from the file; drop the other flags, or drop -f", USAGE)
    origin = "stdin" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        return manifest_of_documents(list(yaml.safe_load_all(text)), origin)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec(origin, f"cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise InvalidSpec(origin, f"is not YAML: {error}") from error


def read_duration(flag: str, text: str | None) -> timedelta | None:
    """The value of a flag; InvalidSpec names the flag."""
    if text is None:
        return None
    from dawg_orchestrator.resources.model import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise InvalidSpec(flag, str(error)) from error


def say(target: Target, found: Run, text: str) -> None:
    """The run for programs, a sentence for people."""
    from dawg_orchestrator.client.printing import print_json, print_line
    from dawg_orchestrator.client.terminal import one_line

    if target.wants_json:
        print_json(found.raw)
    else:
        print_line(one_line(text))
