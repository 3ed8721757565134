"""Citus: the same tables, distributed over servers by the record's id or by its tenant, so that its rows are on one of
them. Imports nothing of kameleon's."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

RECORD, TENANT = "record_id", "tenant"
"""What tables can be distributed by."""
COMMON = (
    *("meta", "generation", "entities", "tenanted", "class", "table", "synonym", "query_rule", "judgement", "reindex"),
    "reindex_range",
)
"""The tables that each server has."""
KEYWORDS = ("tail", "dead", "segment", "word", "posting")
"""Those of the keyword index, which each server has too, unless tables are distributed by tenant."""

IS_DISTRIBUTED = text("SELECT 1 FROM pg_dist_partition WHERE logicalrelid = to_regclass(:table)")
DISTRIBUTE = text("SELECT create_distributed_table(:table, :column, colocate_with => :beside)")
COPY_EVERYWHERE = text("SELECT create_reference_table(:table)")


def places(by: str, names: Mapping[str, str], beside: Sequence[str]) -> list[tuple[str, str | None, str]]:
    """Returns each table with its distribution column, None where each server has all of it, and the table whose rows
    of the same value are on the same server. By tenant, what is read of one is on one server."""
    search, whole = names["search"], [(names[name], None, "") for name in COMMON]
    keywords = [names[name] for name in KEYWORDS]
    if by == TENANT:
        others = [names["records"], names["embedding_cache"], *keywords, *beside]
        return [*whole, (search, TENANT, "none"), *((table, TENANT, search) for table in others)]
    return [
        *whole,
        *((table, None, "") for table in keywords),
        (search, "record_id", "none"),
        (names["records"], "id", search),
        *((table, "record_id", search) for table in beside),
        (names["embedding_cache"], "text_hash", "none"),
    ]


def distribute(connection: Connection, search: str, wanted: Sequence[tuple[str, str | None, str]]) -> list[str]:
    """Distributes the tables that are not yet, and returns which were."""
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
    connection.exec_driver_sql(f"CREATE INDEX {search.rpartition('.')[2]}_doc ON {search} (doc)")


def distribute_generation(connection: Connection, search: str, embedding: str, by: str) -> None:
    """Places a new generation beside the records' rows."""
    if is_distributed(connection, search):
        connection.execute(DISTRIBUTE, {"table": embedding, "column": by, "beside": search})


def is_distributed(connection: Connection, table: str) -> bool:
    return connection.scalar(IS_DISTRIBUTED, {"table": table}) is not None
