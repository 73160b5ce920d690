"""What the leader asks the api."""

from __future__ import annotations

from collections.abc import AsyncIterator

from dawg_orchestrator.controller.history import _MOST_LEARNED, _whole


async def pieces(*some: bytes) -> AsyncIterator[bytes]:
    for piece in some:
        yield piece


async def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    assert await _whole(pieces(b"a" * 1000, b"", b"b"), "/v1/learned") == b"a" * 1000 + b"b"


async def test_an_answer_that_is_longer_than_the_api_gives_is_none() -> None:
    assert await _whole(pieces(b"a", b"b" * _MOST_LEARNED), "/v1/learned") is None
