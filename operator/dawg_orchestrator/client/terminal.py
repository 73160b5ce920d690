"""Text from the cluster on a terminal: it may have been written to deceive, so control characters become visible."""

from __future__ import annotations

import codecs
import re

# C0 and C1 controls, DEL, and the marks that change the direction of text or hide in it.
_UNSAFE = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
_IN_NAME = re.compile(rf"[{_UNSAFE}\t\n]")
_IN_MESSAGE = re.compile(rf"[{_UNSAFE}\t]")
_COLOUR = r"\x1b\[[0-9;:]*m"
_IN_LOG = re.compile(rf"({_COLOUR}|\r(?=\n))|[{_UNSAFE}]")
_MAYBE_COLOUR = re.compile(r"\x1b(\[[0-9;:]{0,30})?$|\r$")


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group(0))
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: object) -> str:
    """A name or a message in one line, with every control character made visible."""
    return _IN_NAME.sub(_visible, "" if text is None else str(text))


def lines(text: object) -> str:
    """A message of several lines; only its line breaks keep their effect."""
    return _IN_MESSAGE.sub(_visible, "" if text is None else str(text))


class LogForTerminal:
    """A test's log as it may be shown: colours stay, what moves the cursor or talks to the terminal becomes visible.

    Chunks may end anywhere, also within a character or a colour; the rest is kept until the next one.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept = ""

    def feed(self, chunk: bytes, *, last: bool = False) -> str:
        """What may be printed now."""
        text = self._kept + self._decoder.decode(chunk, last)
        self._kept = ""
        if not last and (cut := _MAYBE_COLOUR.search(text)):
            text, self._kept = text[: cut.start()], text[cut.start() :]
        return _IN_LOG.sub(lambda match: match.group(1) or _visible(match), text)
