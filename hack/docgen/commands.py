"""The reference of the command line, from the same definitions that print its help."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import typer.main

from dawg_orchestrator.client.cli import app
from dawg_orchestrator.client.options import PANEL
from docgen.markdown import table, with_code

_OWN_OPTIONS = "Options"


def commands_reference() -> str:
    """All commands, then the options that each of them has."""
    root: Any = typer.main.get_command(app)
    parts = [_command(path, command) for path, command in _commands("dawg", root)]
    shared = [parameter for parameter in root.params if parameter.rich_help_panel == PANEL]
    completion = [parameter for parameter in root.params if parameter.rich_help_panel != PANEL]
    parts.append(f"## Options of every command\n\n{_options(shared)}")
    parts.append(f"## Completion in your shell\n\n{_options(completion)}")
    return "\n\n".join(parts)


def _commands(path: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        yield from _commands(f"{path} {name}", command) if hasattr(command, "commands") else ()


def _command(path: str, command: Any) -> str:
    own = [parameter for parameter in command.params if parameter.rich_help_panel != PANEL]
    arguments = [parameter for parameter in own if _is_argument(parameter)]
    panels: dict[str, list[Any]] = {}
    for parameter in own:
        if not _is_argument(parameter):
            panels.setdefault(parameter.rich_help_panel or _OWN_OPTIONS, []).append(parameter)
    parts = [f"## {path}", command.help, f"```text\n{_usage(path, command, arguments)}\n```"]
    if arguments:
        parts.append(table(["Argument", "Meaning"], [(f"`{_metavar(one)}`", one.help or "") for one in arguments]))
    for title, options in panels.items():
        parts += [f"{title}:", _options(options)] if title != _OWN_OPTIONS else [_options(options)]
    parts.append(_epilog(command.epilog))
    return "\n\n".join(part for part in parts if part)


def _usage(path: str, command: Any, arguments: Sequence[Any]) -> str:
    words = [path, "[OPTIONS]", *(_metavar(argument) for argument in arguments)]
    return " ".join([*words, "[COMMAND]"] if hasattr(command, "commands") else words)


def _is_argument(parameter: Any) -> bool:
    return not parameter.opts[0].startswith("-")


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _options(options: Sequence[Any]) -> str:
    return table(["Option", "Meaning"], [(_spelled(option), _meaning(option)) for option in options])


def _spelled(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    ways = [f"`{way}{value}`" for way in sorted(option.opts, key=len)]
    return ", ".join([*ways, *(f"`{way}`" for way in option.secondary_opts)])


def _meaning(option: Any) -> str:
    parts = [option.help or ""]
    if option.envvar:
        parts.append(f"Environment: `{option.envvar}`.")
    if option.default not in (None, False, ()):
        shown = option.opts[0] if option.is_flag else option.default
        parts.append(f"Default: `{shown}`.")
    return " ".join(parts)


def _epilog(epilog: str) -> str:
    """Commands among the lines become code, sentences stay sentences."""
    lines = [re.sub(r"\[/?bold\]", "", line).strip() for line in epilog.split("\n\n")]
    commands = [line for line in lines if re.match(r"(dawg|cat) ", line)]
    sentences = [line for line in lines if line not in commands and line != "Examples"]
    code = "```bash\n" + "\n".join(commands) + "\n```" if commands else ""
    return "\n\n".join(part for part in (code, *map(with_code, sentences)) if part)
