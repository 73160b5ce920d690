"""One `hack/up` or `hack/down` at a time: two would take each other's half-started processes for leftovers."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from localcluster import paths
from localcluster.progress import step


@contextmanager
def cluster_lock() -> Iterator[None]:
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    with paths.LOCK.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step("wait for another hack/up or hack/down to end"):
                fcntl.flock(held, fcntl.LOCK_EX)
        yield
