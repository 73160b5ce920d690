"""Which of the two clusters this machine gets."""

from collections.abc import Sequence
from typing import Protocol

from localcluster import kind, paths, single_node
from localcluster.images import BuiltImage, Image


class Engine(Protocol):
    """What the modules `kind` and `single_node` both are."""

    def create(self, fsync: bool) -> None: ...

    def build(self, image: Image) -> BuiltImage: ...

    def load(self, built: Sequence[BuiltImage]) -> None: ...

    def exists(self) -> bool: ...

    def delete(self) -> None: ...


ENGINES: tuple[Engine, ...] = (kind, single_node)


def choose() -> Engine:
    # A running cluster of ours stays ours, even if someone starts Docker beside it.
    if paths.RECORDS.is_dir():
        return single_node
    return kind if kind.answers() else single_node
