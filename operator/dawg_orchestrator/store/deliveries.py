"""Webhooks that have been delivered: none starts a second run, whichever replica takes it and however late."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import Table, delete, or_, select, update

from dawg_orchestrator.store import tables
from dawg_orchestrator.store.database import Database

_DELIVERIES = cast("Table", tables.WebhookDelivery.__table__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A signed request: for which Workflow (uid), under which id, with which signature, and the run it starts."""

    workflow: str
    delivery: str
    signature: str
    run_name: str
    started: bool = False


class Deliveries:
    """Rows of the table ``webhook_deliveries``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, wanted: Delivery, now: datetime) -> Delivery:
        """The delivery that holds this id or, failing that, this signature: the wanted one if it is the first."""
        row = {
            "workflow": wanted.workflow, "delivery": wanted.delivery, "signature": wanted.signature,
            "run_name": wanted.run_name, "started": False, "received": now,
        }  # fmt: skip
        same = or_(_DELIVERIES.c.delivery == wanted.delivery, _DELIVERIES.c.signature == wanted.signature)
        query = select(_DELIVERIES).where(_DELIVERIES.c.workflow == wanted.workflow, same)
        async with self._database.writing() as connection:
            if await self._database.insert_if_absent(connection, _DELIVERIES, row):
                return wanted
            found = (await connection.execute(query)).all()
        same_id_first = sorted(found, key=lambda one: bool(one.delivery != wanted.delivery))
        for one in same_id_first:
            return Delivery(one.workflow, one.delivery, one.signature, one.run_name, one.started)
        return wanted  # what was in its way has been forgotten meanwhile

    async def mark_started(self, delivery: Delivery) -> None:
        """Its run exists: from now on it starts nothing, though that run may be deleted."""
        mine = (_DELIVERIES.c.workflow == delivery.workflow) & (_DELIVERIES.c.delivery == delivery.delivery)
        async with self._database.writing() as connection:
            await connection.execute(update(_DELIVERIES).where(mine).values(started=True))

    async def forget(self, before: datetime) -> int:
        """Delete those that came before then; return how many."""
        async with self._database.writing() as connection:
            done = await connection.execute(delete(_DELIVERIES).where(_DELIVERIES.c.received < before))
        return int(done.rowcount)
