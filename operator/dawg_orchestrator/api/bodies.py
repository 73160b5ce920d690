"""Request bodies, never more of them than their bound; what is compressed counts as what it becomes."""

from __future__ import annotations

import zlib
from typing import TypeVar

from fastapi import Request
from pydantic import ValidationError

from dawg_orchestrator.api.answers import Refusal, bad_request
from dawg_orchestrator.resources.model import Model

_PIECE = 256 * 1024
_GZIP = 31  # zlib's window bits for gzip
M = TypeVar("M", bound=Model)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"the body is larger than {limit} bytes", "send less")


def announced_size(request: Request, limit: int) -> None:
    """Refuse a body that says itself that it is too large, before a byte of it is read."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, unpacked if it is gzip; Refusal 413 beyond ``limit`` bytes, 415 for other encodings."""
    announced_size(request, limit)
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise Refusal(415, f"the body is {encoding[:40]}", "send it plain or as gzip")
    unpack = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
    body = bytearray()
    async for piece in request.stream():
        if unpack is None:
            body += piece
        else:
            _inflate(unpack, piece, body, limit)
        if len(body) > limit:
            raise _too_large(limit)
    if unpack is not None and not unpack.eof:
        raise bad_request("the gzip body ends too early", "send it whole")
    return bytes(body)


def read_model(model: type[M], body: bytes) -> M:
    """What the body says; Refusal 400 names the first thing that is wrong in it."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise bad_request(f"{place}: {first['msg']}"[:300], f"send a {model.__name__}") from None


def _inflate(unpack: zlib._Decompress, piece: bytes, body: bytearray, limit: int) -> None:
    try:
        while piece and not unpack.eof:
            body += unpack.decompress(piece, _PIECE)
            piece = unpack.unconsumed_tail
            if len(body) > limit:
                raise _too_large(limit)
    except zlib.error:
        raise bad_request("the body is not gzip", "send it plain or as gzip") from None
