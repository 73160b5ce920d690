"""Models of commits' risk, one a repository of a namespace, and whose turn it is to look after each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import Table, delete, select, update

from dawg_orchestrator.store import tables
from dawg_orchestrator.store.database import Database

_MODELS = cast("Table", tables.RiskModel.__table__)
_SAMPLES = cast("Table", tables.CommitSample.__table__)


@dataclass(frozen=True, slots=True)
class KeptModel:
    """``model`` is JSON, or None and ``why``; ``fitted_to`` so many samples the last time. Version 0: never fitted."""

    version: int = 0
    model: str | None = None
    why: str = ""
    fitted_to: int = 0


class RiskModels:
    """Rows of the table ``risk_models``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, namespace: str, repository: str) -> KeptModel:
        """The newest."""
        query = select(_MODELS).where(_MODELS.c.namespace == namespace, _MODELS.c.repository == repository)
        row = await self._database.first(query)
        return KeptModel() if row is None else KeptModel(row["version"], row["model"], row["why"], row["fitted_to"])

    async def due(self, repositories: Iterable[tuple[str, str]], now: datetime) -> list[tuple[str, str]]:
        """Those of the repositories that nobody has looked after for a while."""
        rows = await self._database.rows(select(_MODELS.c.namespace, _MODELS.c.repository, _MODELS.c.look_at))
        later = {(row["namespace"], row["repository"]) for row in rows if row["look_at"] > now}
        return [one for one in repositories if one not in later]

    async def claim(self, namespace: str, repository: str, now: datetime, until: datetime) -> bool:
        """Take the repository until then; False when somebody else has it."""
        row = {"namespace": namespace, "repository": repository, "look_at": until, "version": 0, "fitted_to": 0,
               "fitted_at": None, "model": None, "why": ""}  # fmt: skip
        mine = (_MODELS.c.namespace == namespace) & (_MODELS.c.repository == repository)
        async with self._database.writing() as connection:
            if await self._database.insert_if_absent(connection, _MODELS, row):
                return True
            taken = await connection.execute(
                update(_MODELS).where(mine, _MODELS.c.look_at <= now).values(look_at=until)
            )
        return bool(taken.rowcount)

    async def give_back(self, namespace: str, repository: str, look_at: datetime) -> None:
        """Nothing is to be done here before then."""
        await self._update(namespace, repository, look_at=look_at)

    async def keep(self, namespace: str, repository: str, fitted: KeptModel, now: datetime) -> None:
        """Keep what a fit came to in place of what there was."""
        await self._update(
            namespace, repository, version=fitted.version, model=fitted.model, why=fitted.why,
            fitted_to=fitted.fitted_to, fitted_at=now,
        )  # fmt: skip

    async def note(self, namespace: str, repository: str, why: str) -> None:
        """Say why there is no newer one; the one that there is stays."""
        await self._update(namespace, repository, why=why)

    async def forget(self) -> int:
        """Delete those of repositories that have no samples any more; return how many."""
        known = select(_SAMPLES.c.commit).where(
            _SAMPLES.c.namespace == _MODELS.c.namespace, _SAMPLES.c.repository == _MODELS.c.repository
        )
        async with self._database.writing() as connection:
            done = await connection.execute(delete(_MODELS).where(~known.exists()))
        return int(done.rowcount)

    async def _update(self, namespace: str, repository: str, **values: object) -> None:
        mine = (_MODELS.c.namespace == namespace) & (_MODELS.c.repository == repository)
        async with self._database.writing() as connection:
            await connection.execute(update(_MODELS).where(mine).values(values))
