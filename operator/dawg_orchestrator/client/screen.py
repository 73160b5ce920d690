"""Where a followed run is shown: a live view on a terminal, a line for each change everywhere else."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Protocol, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from dawg_orchestrator.client.terminal import one_line
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.client.view_run import changes, ending, live_view, run_view

_FRAMES_PER_SECOND = 4


class Screen(Protocol):
    """What following a run needs to be seen."""

    def show(self, run: Run) -> None:
        """The run has changed."""

    def problem(self, text: str | None) -> None:
        """Nothing can be heard, and why; None: all is well again."""

    def finish(self, run: Run | None) -> None:
        """Nothing more will come; with ``run`` say how it ended."""


class Lines:
    """One line for each change, with its time, to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: Run | None = None
        self._problem: str | None = None

    def show(self, run: Run) -> None:
        """Write what changed."""
        for line in changes(self._last, run):
            self._write(line)
        self._last = run

    def problem(self, text: str | None) -> None:
        """Write a problem once, and its end."""
        if text is not None and self._problem is None:
            hint(f"{text} (trying again)")
        elif text is None and self._problem is not None:
            hint("the cluster answers again")
        self._problem = text

    def finish(self, run: Run | None) -> None:
        """Write the verdict and the failures."""
        for line in ending(run) if run is not None else ():
            self._write(line)

    def _write(self, line: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%SZ} {line}", file=self._stream, flush=True)


class LiveScreen:
    """The run redrawn in place; its clock ticks between the news."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._run: Run | None = None
        self._problem: str | None = None
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=_FRAMES_PER_SECOND)

    def show(self, run: Run) -> None:
        """Draw the run."""
        self._run = run
        if not self._live.is_started:
            self._live.start(refresh=True)

    def problem(self, text: str | None) -> None:
        """Show the problem below the run while it lasts."""
        self._problem = text

    def finish(self, run: Run | None) -> None:
        """Replace the live view by the whole run."""
        if self._live.is_started:
            self._live.transient = run is not None
            self._live.stop()
        if run is not None:
            self._console.print(run_view(run, datetime.now(UTC)))

    def _picture(self) -> RenderableType:
        if self._run is None:
            return Text("waiting for the cluster")
        return live_view(self._run, datetime.now(UTC), self._console.height, self._problem)


def screen_for(*, wants_json: bool) -> Screen:
    """With JSON wanted, stdout is the program's; progress goes to stderr."""
    if wants_json:
        return Lines(sys.stderr)
    console = Console()
    return LiveScreen(console) if console.is_terminal and not console.is_dumb_terminal else Lines(sys.stdout)


def hint(text: str) -> None:
    """A word to the person, beside the answer: on stderr."""
    print(f"dawg: {one_line(text)}", file=sys.stderr, flush=True)
