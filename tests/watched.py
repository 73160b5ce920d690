"""Everything that ever was, also what is gone when one looks: rows of a `kubectl get --watch`."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster_at_hand import Kubectl

_NONE = "<none>"


class Watched:
    """The states that objects of a kind went through, each as a row of the columns asked for, "" where one is empty."""

    def __init__(self, kubectl: Kubectl, kind: str, selector: str, *columns: str) -> None:
        told = ",".join(f"C{number}:{column}" for number, column in enumerate(columns))
        self._command = ["kubectl", "--namespace", kubectl.namespace, "get", kind, "--selector", selector,
                         "--output", f"custom-columns={told}", "--no-headers", "--watch"]  # fmt: skip
        self._columns = len(columns)
        self._rows: list[tuple[str, ...]] = []
        self._over = threading.Event()

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """All rows seen so far, oldest first; the same state may be there twice."""
        return list(self._rows)

    def follow(self) -> None:
        """Until ``stop``: the apiserver may end any watch; the next one begins with a list."""
        while not self._over.is_set():
            watching = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            ending = threading.Thread(target=lambda process: (self._over.wait(), process.terminate()), args=(watching,))
            ending.daemon = True
            ending.start()
            assert watching.stdout is not None
            with watching.stdout:
                for line in watching.stdout:
                    cells = tuple("" if cell == _NONE else cell for cell in line.split())
                    if len(cells) == self._columns:
                        self._rows.append(cells)
            watching.wait()
            time.sleep(0.1)

    def stop(self) -> None:
        """No more."""
        self._over.set()


@contextmanager
def watched(kubectl: Kubectl, kind: str, selector: str, *columns: str) -> Iterator[Watched]:
    """Watch for as long as the block lasts."""
    seen = Watched(kubectl, kind, selector, *columns)
    thread = threading.Thread(target=seen.follow, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        seen.stop()
        thread.join(10)
