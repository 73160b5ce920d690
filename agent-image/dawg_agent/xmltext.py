"""Bytes of a report → text that an XML parser accepts.

Test tools write terminal colours, NUL bytes and wrong encodings into their reports. None of that may cost a verdict,
so whatever XML forbids is replaced before the parser sees it; everything else is left as it is.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

CHUNK = 256 * 1024
_REPLACEMENT = "\ufffd"

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["']""")
# Text encodings only: Python knows codecs that decompress or run in quadratic time, and the file chooses the name.
_ACCEPTED = re.compile(
    r"^(utf[-_]?8|us-ascii|ascii|iso[-_]?8859|iso[-_]?2022|latin|windows|cp|gb|big5|euc|shift|sjis|koi8|mac)",
    re.IGNORECASE,
)
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REFERENCE = re.compile(r"&#(?:x([0-9A-Fa-f]+)|([0-9]+));")
_LONGEST_REFERENCE = 16  # characters; a reference cut by the end of a chunk waits for the next one


def _encoding_of(head: bytes) -> tuple[str, int]:
    """Name the encoding and how many bytes its mark takes; wrong declarations fall back to UTF-8."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    if head[:4] == b"<\x00?\x00":
        return "utf-16-le", 0
    if head[:4] == b"\x00<\x00?":
        return "utf-16-be", 0
    declared = _DECLARED.match(head)
    name = declared.group(1).decode("ascii") if declared else "utf-8"
    if not _ACCEPTED.match(name):  # also UTF-16 declared in a file that is plainly not: .NET tools do that
        return "utf-8", 0
    try:
        "".encode(name)
    except LookupError:
        return "utf-8", 0
    return name, 0


def _allowed(code: int) -> bool:
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF


def _reference(match: re.Match[str]) -> str:
    hexadecimal, decimal = match.groups()
    code = int(hexadecimal, 16) if hexadecimal else int(decimal)
    return match.group(0) if _allowed(code) else _REPLACEMENT


def _clean(text: str) -> str:
    text = _FORBIDDEN.sub(_REPLACEMENT, text)
    return _REFERENCE.sub(_reference, text) if "&#" in text else text


def clean_text(stream: BinaryIO) -> Iterator[str]:
    """Yield the stream's text in pieces, without what XML forbids."""
    head = stream.read(CHUNK)
    encoding, skip = _encoding_of(head)
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    data, kept = head[skip:], ""
    while data:
        text = kept + decoder.decode(data)
        cut = text.rfind("&", max(0, len(text) - _LONGEST_REFERENCE))
        kept = "" if cut < 0 else text[cut:]
        yield _clean(text if cut < 0 else text[:cut])
        data = stream.read(CHUNK)
    yield _clean(kept + decoder.decode(b"", final=True))
