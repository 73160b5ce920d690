"""Reports far larger than what anybody reads."""

from __future__ import annotations

import io
import time
import tracemalloc
from collections.abc import Iterator

from dawg_agent.reports import read_report


class Endless(io.RawIOBase):
    """A report of about 100 MB that is made while it is read."""

    def __init__(self, cases: int) -> None:
        self._pieces = self._write(cases)
        self._left = b""

    def _write(self, cases: int) -> Iterator[bytes]:
        yield b'<testsuite name="huge">'
        output = b"one line of a very talkative test\n" * 300
        for number in range(cases):
            body = b"<failure message='no'>trace</failure>" if number % 100 == 0 else b""
            yield b'<testcase classname="c" name="t%d" time="0.1">%s<system-out>%s</system-out></testcase>' % (
                number,
                body,
                output,
            )
        yield b"</testsuite>"

    def read(self, size: int = -1) -> bytes:
        while len(self._left) < size and (piece := next(self._pieces, b"")):
            self._left += piece
        taken, self._left = self._left[:size], self._left[size:]
        return taken


def test_ten_thousand_cases_in_a_hundred_megabytes_stay_small() -> None:
    tracemalloc.start()
    begin = time.monotonic()
    counts = read_report(Endless(10_000), "huge.xml").counts  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (counts.total, counts.failed) == (10_000, 100)
    assert peak < 64 * 1024 * 1024
    assert time.monotonic() - begin < 20
