"""Alembic's entry: migrate the connection that store/migrate.py hands over."""

from __future__ import annotations

from alembic import context

from dawg_orchestrator.store.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the caller's transaction is the only one
)
context.run_migrations()
