"""Alembic's entry point; the connection comes from ``store.migrate`` (or from alembic's own command line)."""

from alembic import context

from hotswap_proxy.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can, since the transaction is begun by us and not by the driver
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
