"""Citus: the same tables, distributed over servers by the record's id, so that a record's rows are on one of them.
Imports nothing of kameleon's."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

IS_DISTRIBUTED = text("SELECT 1 FROM pg_dist_partition WHERE logicalrelid = to_regclass(:table)")
DISTRIBUTE = text("SELECT create_distributed_table(:table, :column, colocate_with => :beside)")
COPY_EVERYWHERE = text("SELECT create_reference_table(:table)")


def distribute(
    connection: Connection,
    search: str,
    *,
    small: Sequence[str],
    beside: Sequence[str],
    records: str,
    cache: str,
) -> list[str]:
    """Distributes the tables that are not yet, and returns which were."""
    wanted = [
        *((table, None, "") for table in small),
        (search, "record_id", "none"),
        (records, "id", search),
        *((table, "record_id", search) for table in beside),
        (cache, "text_hash", "none"),
    ]
    done = []
    for table, column, beside in wanted:
        if is_distributed(connection, table):
            continue
        if table == search:
            number_without_constraint(connection, search)
        if column is None:
            connection.execute(COPY_EVERYWHERE, {"table": table})
        else:
            connection.execute(DISTRIBUTE, {"table": table, "column": column, "beside": beside})
        done.append(table)
    return done


def number_without_constraint(connection: Connection, search: str) -> None:
    """Replaces the unique index of the contents' numbers: a cluster's unique indexes have the distribution column."""
    connection.exec_driver_sql(f"DROP INDEX {search}_doc")
    connection.exec_driver_sql(f"CREATE INDEX kdb_search_doc ON {search} (doc)")


def distribute_generation(connection: Connection, search: str, embedding: str) -> None:
    """Places a new generation beside the records' rows."""
    if is_distributed(connection, search):
        connection.execute(DISTRIBUTE, {"table": embedding, "column": "record_id", "beside": search})


def is_distributed(connection: Connection, table: str) -> bool:
    return connection.scalar(IS_DISTRIBUTED, {"table": table}) is not None
