"""Bring the schema to the newest version; the migrations are part of the package, no file outside it is read."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

_MIGRATIONS = "dawg_orchestrator.store:migrations"
_LOCK = 0x64617767  # one number that all replicas know


def migrate(connection: Connection) -> None:
    """Upgrade inside the caller's transaction; replicas that start together wait for one another."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    command.upgrade(migrations(connection), "head")


def migrations(connection: Connection) -> Config:
    """Alembic's view of this package's migrations and of one connection."""
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
