"""Steps and their seconds on the terminal: one line each, redrawn in place where there is a terminal."""

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

REDRAW_SECONDS = 0.5
# Without a terminal (CI) a long step still says now and then that it is alive.
HEARTBEAT_SECONDS = 30.0
LONGEST_NOTE = 160


class Step:
    """One step while it runs: `note` is the latest thing worth showing about it."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.note = ""
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()

    def _line(self, mark: str) -> str:
        text = f"{mark} {self.title} ({time.monotonic() - self._started:.1f} s)"
        return f"{text}: {self.note[:LONGEST_NOTE]}" if self.note else text

    def _tick(self) -> None:
        terminal = sys.stderr.isatty()
        while not self._ended.wait(REDRAW_SECONDS if terminal else HEARTBEAT_SECONDS):
            self._write(self._line("…"), terminal)

    def _write(self, line: str, redrawn: bool) -> None:
        if redrawn:
            width = shutil.get_terminal_size().columns
            sys.stderr.write(f"\r\x1b[K{line[: width - 1]}")
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def end(self, succeeded: bool) -> None:
        self._ended.set()
        self._ticker.join()
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
        if succeeded:
            self._write(self._line("✓"), redrawn=False)
        else:
            self._write(self._line("✗"), redrawn=False)


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Show `title` with its seconds until the block ends."""
    current = Step(title)
    try:
        yield current
    except BaseException:
        current.end(succeeded=False)
        raise
    current.end(succeeded=True)


def say(line: str) -> None:
    """A line between the steps; standard output stays free for what a program reads."""
    print(line, file=sys.stderr, flush=True)
