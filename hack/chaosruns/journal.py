"""What tests themselves say: each connects when it starts, and the connection lasts as long as any of its processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chaosruns.history import Stay
from localcluster import network

# The first process of a container is deaf to SIGTERM unless it asks for it.
_SCRIPT = """\
trap 'exit 143' TERM
exec 3<>{address}
echo "{told}" >&3
({body}) &
wait $!
code=$?
echo over >&3
exit $code
"""


class Journal:
    """``stays`` grows as tests come and go."""

    def __init__(self) -> None:
        self.stays: list[Stay] = []
        self._address = ""

    def script(self, body: str) -> list[str]:
        """The command of a test that tells the journal of its life; it ends as ``body`` does."""
        told = "$DAWG_RUN $DAWG_TASK ${DAWG_SHARD_INDEX:-0} $DAWG_ATTEMPT $EPOCHREALTIME"
        return ["bash", "-c", _SCRIPT.format(address=self._address, told=told, body=body)]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear tests for as long as the block lasts."""
        server = await asyncio.start_server(self._hear, network.NODE_ADDRESS, 0)
        self._address = f"/dev/tcp/{network.NODE_ADDRESS}/{server.sockets[0].getsockname()[1]}"
        async with server:
            yield

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            run, task, shard, attempt, started = (await reader.readline()).decode().split()
        except ValueError:
            writer.close()
            return
        stay = Stay(run, task, int(shard), int(attempt), float(started))
        self.stays.append(stay)
        try:
            stay.finished = (await reader.readline()) == b"over\n"
            await reader.read()
        except (ConnectionError, asyncio.CancelledError):
            pass  # the machine, or this command, ends it
        stay.ended = time.time()
        writer.close()
