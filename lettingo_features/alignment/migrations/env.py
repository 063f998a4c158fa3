"""What alembic runs for an upgrade: on the connection and in the transaction that `database.Database` opened."""

from alembic import context

from lettingo_features.alignment.database_tables import SCHEMA, metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=SCHEMA.version_table
)
context.run_migrations()
