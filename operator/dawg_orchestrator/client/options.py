"""The options that every command has, written once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from dawg_orchestrator.client.target import Output, Target

PANEL = "Which cluster, and how to answer"


_OPTIONS: dict[str, Any] = {
    "namespace": Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace; else the context's.", rich_help_panel=PANEL)
    ],
    "output": Annotated[
        Output | None, typer.Option("--output", "-o", help="text (default) or json.", rich_help_panel=PANEL)
    ],
    "context": Annotated[str | None, typer.Option("--context", help="Kubeconfig context.", rich_help_panel=PANEL)],
    "kubeconfig": Annotated[
        str | None, typer.Option("--kubeconfig", help="Kubeconfig file; else KUBECONFIG.", rich_help_panel=PANEL)
    ],
    "release_namespace": Annotated[
        str | None,
        typer.Option(
            "--release-namespace",
            envvar="DAWG_NAMESPACE",
            help="Namespace of the dawg release; else the context's, else dawg.",
            rich_help_panel=PANEL,
        ),
    ],
}


def with_shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``target: Target`` as its first argument, and the options that fill it to its signature.

    They may also stand before the command's name, as with kubectl.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    wants_context = any(parameter.name == "ctx" for parameter in own)
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(name, keyword, default=None, annotation=annotation) for name, annotation in _OPTIONS.items()
    ]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

    @functools.wraps(command)
    def completed(ctx: typer.Context, **given: Any) -> Any:
        target = Target(**{name: given.pop(name) for name in _OPTIONS})
        outer = ctx.parent.obj if ctx.parent is not None else None
        target = target.over(outer) if isinstance(outer, Target) else target
        ctx.obj = target
        return command(target, ctx=ctx, **given) if wants_context else command(target, **given)

    own = [parameter for parameter in own if parameter.name != context.name]
    parameters = [context, *(parameter.replace(kind=keyword) for parameter in own), *shared]
    completed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    completed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del completed.__wrapped__  # typer would look through it at the bare command
    return completed
