"""`dawg`, also as `kubectl dawg`: the commands and their help. What a command needs is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dawg_orchestrator.client import (
    approving,
    drawing,
    forks,
    hooks_command,
    overriding,
    rerunning,
    running,
    scheduling,
    showing,
    starting,
    watch_command,
)
from dawg_orchestrator.client.exits import USAGE, exit_code_of_error
from dawg_orchestrator.client.options import with_shared_options
from dawg_orchestrator.client.running import Name
from dawg_orchestrator.client.target import Target
from dawg_orchestrator.errors import DawgError


class Commands(TyperGroup):
    """Ends every command with the product's exit codes: 64 for wrong usage, and a sentence instead of a traceback."""

    def make_context(self, *args: Any, **settings: Any) -> Any:
        """Read the arguments that stand before the command's name."""
        return _with_exit_codes(lambda: super(Commands, self).make_context(*args, **settings))

    def invoke(self, ctx: Any) -> Any:
        """Carry out the command."""
        return _with_exit_codes(lambda: super(Commands, self).invoke(ctx))


def _with_exit_codes(step: Callable[[], Any]) -> Any:
    try:
        return step()
    except typer.TyperException as error:
        error.exit_code = USAGE
        raise
    except DawgError as error:
        from dawg_orchestrator.client.screen import hint

        hint(str(error))
        raise typer.Exit(exit_code_of_error(error)) from error


def _examples(*lines: str) -> str:
    return "\n\n".join(("[bold]Examples[/bold]", *lines))


_EXIT_CODES = (
    "Exit codes of run, workflow, rerun and wait: 0 Passed or Flaky, 1 Failed or TimedOut, 2 InfraError, "
    "3 Cancelled, Skipped or deleted, 4 gave up waiting or no cluster, 64 wrong usage, 130 Ctrl-C (the run goes on)."
)

app = typer.Typer(
    name="dawg",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples(
        "dawg run --image python:3.12 -- python -m unittest",
        "dawg run -f testrun.yaml",
        "dawg why checkout-x7k2p",
        "[bold]Completion[/bold] of commands and options in your shell: dawg --install-completion",
        _EXIT_CODES,
    ),
)


@app.callback()
@with_shared_options
def dawg(target: Target) -> None:
    """Run tests on Kubernetes and read the verdict. Needs a kubeconfig and nothing else."""


def _add(function: Callable[..., None], *examples: str, name: str | None = None, group: typer.Typer = app) -> None:
    group.command(name or function.__name__, epilog=_examples(*examples))(with_shared_options(function))


def logs(
    target: Target,
    name: Name,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the task has ended.")] = False,
    task: Annotated[str | None, typer.Option(help="Key, name or index of a task; else all.")] = None,
    attempt: Annotated[int | None, typer.Option(min=1, help="Which attempt; else the latest.")] = None,
) -> None:
    """Print what a run's tests wrote, also long after their pods are gone."""
    from dawg_orchestrator.client.printing_logs import print_logs

    print_logs(target, name, task, attempt, follow=follow)


def why(target: Target, name: Name) -> None:
    """Explain why a run waits or ended as it did, and what would change that."""
    from dawg_orchestrator.client.explaining import explain_run

    explain_run(target, name)


queue = typer.Typer(cls=Commands, invoke_without_command=True, epilog=_examples("dawg queue", "dawg queue -A -o json"))


@queue.callback()
@with_shared_options
def show_queue(target: Target, ctx: typer.Context, *, all_namespaces: showing.AllNamespaces = False) -> None:
    """Show the tasks that wait, in the order in which they will start; `queue test` starts a suite."""
    if ctx.invoked_subcommand is None:
        showing.queue(target, all_namespaces=all_namespaces)


_add(
    running.run,
    "dawg run -f testrun.yaml --timeout 30m",
    "dawg run --image python:3.12 --git https://git.example/shop.git --junit 'junit*.xml' -- pytest -q",
    "cat testrun.yaml | dawg run -f - --no-wait -o json",
    "One argument with blanks is a shell script: dawg run --image alpine -- 'make && make test'",
    _EXIT_CODES,
)
_add(running.wait, "dawg wait checkout-x7k2p --timeout 10m", _EXIT_CODES)
_add(showing.status, "dawg status", "dawg status checkout-x7k2p", "dawg status -o json | jq '.runs[].status.verdict'")
app.add_typer(queue, name="queue")
_add(
    starting.queue_test,
    "dawg queue test --suite smoke",
    "dawg queue test --suite smoke --priority high",
    name="test",
    group=queue,
)
_add(logs, "dawg logs checkout-x7k2p -f", "dawg logs checkout-x7k2p --task unit --attempt 1")
_add(why, "dawg why checkout-x7k2p", "dawg why checkout-x7k2p -o json")
_add(running.cancel, "dawg cancel checkout-x7k2p")
_add(scheduling.schedules, "dawg schedules", "dawg schedules -o json")
_add(
    approving.approve,
    "dawg approve checkout-x7k2p",
    "dawg approve checkout-x7k2p release --reason 'seen on staging'",
    "dawg approve checkout-x7k2p --reject --reason 'wait for the fix'",
)
_add(
    forks.approve_fork,
    "dawg approve-fork checks 12 6dcb09b5b57875f334f61aebed695e2e4193db5e",
    name="approve-fork",
)
_add(
    overriding.override,
    "dawg override checkout-x7k2p --reason 'the site is down, see ticket 12'",
)
_add(
    rerunning.rerun,
    "dawg rerun checkout-x7k2p",
    "dawg rerun checkout-x7k2p --failed --timeout 30m",
    _EXIT_CODES,
)
_add(starting.workflows, "dawg workflows", "dawg workflows -o json | jq -r '.workflows[].metadata.name'")
_add(
    starting.workflow,
    "dawg workflow checkout -p suite=full -p browsers=3",
    "dawg workflow checkout --describe",
    "dawg workflow checkout --git https://git.example/shop.git --revision main --no-wait",
    _EXIT_CODES,
)
_add(
    drawing.graph,
    "dawg graph checkout",
    "dawg graph run/checkout-x7k2p",
    "dawg graph checkout --format dot | dot -Tsvg > checkout.svg",
)
_add(
    scheduling.schedule,
    "dawg schedule nightly",
    "dawg wait $(dawg schedule nightly -o json | jq -r .run)",
)
_add(
    watch_command.watch,
    "dawg watch . --workflow checkout",
    "dawg watch ~/shop -f testrun.yaml --debounce 3s",
    "dawg watch . --workflow checkout --url https://git.example/shop.git --credentials git-credentials",
    "dawg watch . --workflow checkout --once -o json",
    "Ctrl-C ends the watching, with exit code 0; runs go on. With --once the exit codes are those of `run`.",
)
hooks = typer.Typer(cls=Commands, no_args_is_help=True, help="Hold back in git what is blocked.")
app.add_typer(hooks, name="hooks", epilog=_examples("dawg hooks install .", "dawg hooks status ."))
_add(
    hooks_command.install,
    "dawg hooks install .",
    "dawg hooks install --server /srv/git/shop.git",
    group=hooks,
)
_add(hooks_command.uninstall, "dawg hooks uninstall .", group=hooks)
_add(hooks_command.status, "dawg hooks status .", "dawg hooks status . -o json | jq '.blocked'", group=hooks)
_add(
    hooks_command.block,
    "dawg hooks block /srv/git/shop.git $(git rev-parse topic) --reason 'checkout-x7k2p failed'",
    group=hooks,
)
_add(hooks_command.allow, "dawg hooks allow /srv/git/shop.git $(git rev-parse topic)", group=hooks)
_add(showing.history, "dawg history --verdict Failed", "dawg history -A --limit 100 -o json")
_add(showing.metrics, "dawg metrics", "dawg metrics -A -o json")
_add(showing.version, "dawg version", "dawg version --client")


def main() -> None:
    """The command; named `kubectl-dawg` it is kubectl's plugin."""
    as_plugin = Path(sys.argv[0]).name.startswith("kubectl-dawg")
    app(prog_name="kubectl dawg" if as_plugin else "dawg")


if __name__ == "__main__":
    main()
