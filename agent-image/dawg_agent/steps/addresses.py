"""Addresses: looked up among the pool's own secrets, and kept out of everything that is said.

A secret address is not told, and neither is a part of it that could be a credential. Hosts are told, since an error
without one helps nobody; but where a scheme puts a token in the host's place (``slack://TOKEN``), they are not.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

from dawg_agent.steps.faults import StepFailed
from dawg_orchestrator.resources.steps import SecretAddress, Target

HIDDEN = "***"
_SHORTEST_PASSWORD = 3  # characters; of less the rest of a message would become unreadable
_SHORTEST_TOKEN = 6  # in a path or query, where most words are no tokens
_WITH_HOST = frozenset({"http", "https", "postgres", "postgresql", "redis", "rediss", "mailto", "mailtos"})
_USER_INFO = re.compile(r"(?<=://)[^/\s@]+@")


class Addresses:
    """The pool's secret addresses by name, and what must not be told of them and of those that inputs write out."""

    def __init__(self, secrets: Mapping[str, str], inputs: Any = None) -> None:
        self._secrets = secrets
        hidden = {piece for address in secrets.values() for piece in _pieces(address)}
        hidden |= {password for text in _texts(inputs) if (password := _password(text))}
        hidden |= {form for piece in hidden for form in (quote(piece, safe=""), quote(piece), unquote(piece))}
        longest_first = sorted(hidden, key=len, reverse=True)
        self._hidden = re.compile("|".join(map(re.escape, longest_first))) if hidden else None

    def beside(self, inputs: Any) -> Addresses:
        """The same, for a step with these inputs."""
        return Addresses(self._secrets, inputs)

    def of(self, target: Target) -> str:
        """The address of a target; StepFailed when the pool has none of that name."""
        if isinstance(target, str):
            return target
        if not self._secrets.get(target.secret):
            fault = "is empty" if target.secret in self._secrets else "is none of the pool's"
            remedy = "list its Secret in spec.builtin.secrets of the AgentPool"
            raise StepFailed(f"the variable {target.secret} {fault}: {remedy}")
        return self._secrets[target.secret]

    def label(self, target: Target) -> str:
        """What to call a target in messages."""
        if isinstance(target, SecretAddress):
            return target.secret
        scheme, separator, rest = target.partition("://")
        if not separator:
            return self.redacted(target)
        place = re.split(r"[/?#]", rest)[0].rpartition("@")[2] if scheme in _WITH_HOST else "…"
        return f"{scheme}://{place}"

    def redacted(self, text: str) -> str:
        """The text without secrets, nor the user and password of any URL."""
        if self._hidden is not None:
            text = self._hidden.sub(HIDDEN, text)
        return _USER_INFO.sub(f"{HIDDEN}@", text)


class RedactedLogs(logging.Handler):
    """Writes what libraries log, without secrets; without it Python would write their warnings as they are."""

    def __init__(self, addresses: Addresses) -> None:
        super().__init__(logging.WARNING)
        self._addresses = addresses
        self._out = logging.StreamHandler()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; a trace would hold what was asked for, so there is none."""
        text = self._addresses.redacted(f"{record.name}: {record.getMessage()}")
        self._out.emit(logging.LogRecord(record.name, record.levelno, "", 0, text, None, None))


def _pieces(address: str) -> Iterator[str]:
    """What of a secret address must not be told."""
    if not address:
        return
    yield address
    if password := _password(address):
        yield password
    scheme, _, rest = address.rpartition("://")
    rest = rest.rpartition("@")[2]
    if scheme in _WITH_HOST:
        rest = re.split(r"[/?#]", rest, maxsplit=1)[-1] if re.search(r"[/?#]", rest) else ""
    yield from (piece for piece in re.split(r"[/?#&=,;:+@\s]+", rest) if len(piece) >= _SHORTEST_TOKEN)


def _password(address: str) -> str | None:
    """The password of a URL; a user without one is a token."""
    _, separator, rest = address.partition("://")
    user_info, at, _ = rest.rpartition("@")
    if not separator or not at:
        return None
    user, colon, password = user_info.partition(":")
    found = password if colon else user
    return found if len(found) >= _SHORTEST_PASSWORD else None


def _texts(value: Any) -> Iterator[str]:
    """Every text of the inputs, wherever it stands."""
    if isinstance(value, str):
        yield value
        return
    parts: Iterable[Any] = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _texts(part)
