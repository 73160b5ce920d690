"""One connection pool to SQLite or PostgreSQL, brought to the newest schema when it is opened."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Executable, Select, Table, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.store.migrate import migrate

Row = dict[str, Any]

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_BUSY_MILLISECONDS = 15000
_WRITE = "dawg_write"
_ROWS_AT_ONCE = 5000


class Database:
    """Readers never wait for the writer; writers of SQLite queue here instead of in its busy loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._one_writer = asyncio.Lock() if engine.dialect.name == "sqlite" else None

    @classmethod
    async def open(cls, url: str) -> Database:
        """Connect and migrate; StoreError names what is wrong, never the password."""
        parsed = _async_url(url)
        if parsed.get_backend_name() == "sqlite":
            _make_folder(parsed)
        engine = create_async_engine(parsed, pool_pre_ping=True, **_pool_options(parsed))
        if parsed.get_backend_name() == "sqlite":
            _tune_sqlite(engine)
        database = cls(engine)
        try:
            async with database.writing() as connection:
                await connection.run_sync(migrate)
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Give back all connections."""
        await self._engine.dispose()

    async def ping(self) -> None:
        """StoreError unless the database answers."""
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """One consistent view; nothing is written."""
        with _translated():
            async with self._engine.connect() as connection, connection.begin():
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: everything in it, or nothing."""
        with _translated():
            if self._one_writer is None:
                async with self._engine.begin() as connection:
                    yield connection
                return
            async with self._one_writer, self._engine.connect() as connection:
                await connection.execution_options(**{_WRITE: True})
                async with connection.begin():
                    yield connection

    async def rows(self, query: Select[Any]) -> list[Row]:
        """All rows of a query."""
        async with self.reading() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    async def first(self, query: Select[Any]) -> Row | None:
        """The first row of a query."""
        async with self.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
        return dict(row) if row is not None else None

    async def upsert(
        self, connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]], *, keep: Iterable[str] = ()
    ) -> None:
        """Insert rows, or overwrite those of the same primary key but for the columns of ``keep``.

        All rows have the same columns.
        """
        if not rows:
            return
        statement = _upserting(self._engine.dialect.name, table, tuple(rows[0]), frozenset(keep))
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            await connection.execute(statement, [dict(row) for row in rows[start : start + _ROWS_AT_ONCE]])

    async def insert_if_absent(self, connection: AsyncConnection, table: Table, row: Mapping[str, Any]) -> bool:
        """Insert a row unless there is one that shares a unique key with it; whether it was inserted.

        One that another transaction is about to insert is waited for.
        """
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        done = await connection.execute(dialect.insert(table).on_conflict_do_nothing(), dict(row))
        return bool(done.rowcount)


@functools.cache
def _upserting(dialect_name: str, table: Table, columns: tuple[str, ...], keep: frozenset[str]) -> Executable:
    """The statement; putting it together takes longer than executing it."""
    insert = postgresql.insert if dialect_name == "postgresql" else sqlite.insert
    keys = [column.name for column in table.primary_key]
    statement = insert(table)
    new = {name: statement.excluded[name] for name in columns if name not in {*keys, *keep}}
    if not new:
        return statement.on_conflict_do_nothing(index_elements=keys)
    return statement.on_conflict_do_update(index_elements=keys, set_=new)


class _translated:  # noqa: N801 - reads as a statement
    """Database errors become StoreError; SQL text and parameters stay out of the message."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (SQLAlchemyError, OSError)):
            original = getattr(error, "orig", None) or error
            raise StoreError(f"history cannot be read or written: {type(original).__name__}: {original}") from error


def _async_url(written: str) -> URL:
    try:
        url = make_url(written)
    except ArgumentError:
        raise StoreError("DAWG_DATABASE_URL is no URL; write sqlite:////path/file.db or postgresql://…") from None
    scheme = url.drivername.partition("+")[0]
    if scheme not in _DRIVERS:
        raise StoreError(f"DAWG_DATABASE_URL begins with {scheme!r}; sqlite and postgresql are supported")
    return url.set(drivername=_DRIVERS[scheme])


def _make_folder(url: URL) -> None:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)


def _pool_options(url: URL) -> dict[str, Any]:
    return {"pool_size": 8, "max_overflow": 8} if url.get_backend_name() != "sqlite" else {"pool_size": 4}


def _tune_sqlite(engine: AsyncEngine) -> None:
    """Set what SQLite leaves off, and begin transactions ourselves: sqlite3 would begin them too late."""

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        # First how long to wait, for the change to a write-ahead log may have to.
        for pragma in (f"busy_timeout = {_BUSY_MILLISECONDS}", "journal_mode = WAL", "synchronous = NORMAL",
                       "foreign_keys = ON", "cache_size = -32768", "temp_store = MEMORY"):  # fmt: skip
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        write = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
