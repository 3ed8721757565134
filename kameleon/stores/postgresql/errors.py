"""Translates errors of psycopg into kameleon's, with the next step. Imports `errors`."""

import psycopg

from ...errors import DatabaseLocked, DatabaseUnavailable, Outdated, SchemaMissing, StorageError, TransactionConflict

UNIQUE_VIOLATION = "23505"
READ_ONLY = "25006"
SERIALIZATION_FAILURE, DEADLOCK = "40001", "40P01"
NO_RIGHT = "42501"
NOT_SUPPORTED = "0A000"
UNDEFINED_TABLE = "42P01"
TOO_LARGE = "54000"
NOT_AVAILABLE = "55P03"
CANCELED = "57014"
DISK_FULL, TOO_MANY_CONNECTIONS = "53100", "53300"
SHUT_DOWN, CRASHED, STARTING = "57P01", "57P02", "57P03"
UNAVAILABLE = {TOO_MANY_CONNECTIONS, SHUT_DOWN, CRASHED, STARTING}
CONNECTION = "08"
NOT_YET = "FATAL:  the database system is"  # the message to a client that connects, without a code

HIDDEN = (
    "The row is another tenant's than the connection's setting names. Set it to the tenant of the records; a role that "
    "may write those of several, and move records between them, is a worker's: `kameleon tenants protect` names it"
)
MAKES_TABLES = (
    "The tables, and those of a model's embeddings, are made by a role with CREATE on the schema: as that, make a "
    "SearchEngine, and write the first record or run `kameleon embeddings reindex`"
)
PROTECTED_SINCE = "The index was protected while this process ran. Make its SearchEngine again, or restart it"
LOST = (
    "The connection was lost, and with it the transaction, unless it was being committed at that moment: see what is "
    "there, and try again. create_engine(url, pool_pre_ping=True) replaces connections that were lost while nobody "
    "used them"
)

NEXT_STEPS = {
    READ_ONLY: "This is a replica or a read-only transaction: search works here, writing goes to the primary",
    NO_RIGHT: "The role lacks a right on kameleon's tables; an administrator grants it",
    TOO_LARGE: "A record is too large for PostgreSQL. Split it",
    CANCELED: "statement_timeout was reached, or someone cancelled the query. Raise the time-out for this role, narrow "
    "the query by entity or where, or write in smaller batches",
    DISK_FULL: "Nothing of this transaction was stored. Make room on the server's disk, and try again; `kameleon "
    "embeddings prune` drops the embeddings of models that are not searched any more",
    TOO_MANY_CONNECTIONS: "Close some, give a pooler the rest (PgBouncer), or raise max_connections, and try again",
    STARTING: "The server is starting, recovering or going down: try again in a moment",
    SHUT_DOWN: LOST,
    CRASHED: LOST,
}


def storage_error(error: BaseException) -> StorageError:
    """`error` is psycopg's."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    state = getattr(error, "sqlstate", None) or (STARTING if NOT_YET in lines[0] else None)
    if state == UNDEFINED_TABLE and "kdb_embedding_g" in lines[0]:
        return TransactionConflict(
            f"PostgreSQL reports: {lines[0]}. This transaction's snapshot is older than the prune that dropped it: "
            "roll back and repeat yours. If that changes nothing, `kameleon doctor` lists what is missing"
        )
    if state == UNDEFINED_TABLE and "kdb_" in lines[0]:
        return SchemaMissing(
            f"kameleon's tables are not in this database ({lines[0]}). `kameleon table add TABLE --text COLUMN` or "
            "`kameleon data insert ENTITY < FILE` makes them, or SearchEngine(engine); with create_tables=False a "
            "migration must, and with schema= and namespace= those of that schema and namespace are looked for"
        )
    if state in (SERIALIZATION_FAILURE, DEADLOCK):
        return TransactionConflict(
            f"PostgreSQL reports: {lines[0]}. Another transaction conflicts with it: roll back and repeat yours"
        )
    table = getattr(getattr(error, "diag", None), "table_name", None) or ""
    if state == UNIQUE_VIOLATION and table.startswith("kdb_"):
        return Outdated(f"another transaction wrote the same key first ({lines[0]}). Try again")
    if state == NOT_AVAILABLE:
        return DatabaseLocked(f"PostgreSQL reports: {lines[0]}. Try again, or raise lock_timeout")
    cure = NEXT_STEPS.get(state or "", "")
    if state == NO_RIGHT and ("for schema" in lines[0] or "kdb_generation" in lines[0]):
        cure = MAKES_TABLES
    if "row-level security" in lines[0]:
        cure = PROTECTED_SINCE if state == NOT_SUPPORTED else HIDDEN
    if not cure and is_lost(error, state):
        cure = LOST
    made = DatabaseUnavailable if is_unavailable(error, state) else StorageError
    return made(f"PostgreSQL reports: {lines[0]}{'. ' if cure else ''}{cure}")


def is_unavailable(error: BaseException, state: str | None) -> bool:
    """Whether the server takes no connection now, or a connection to it was lost."""
    if state in UNAVAILABLE or is_lost(error, state):
        return True
    return state is None and isinstance(error, psycopg.OperationalError)


def is_lost(error: BaseException, state: str | None) -> bool:
    """Whether an open connection was lost. The driver's own errors have no code."""
    if state is not None:
        return state.startswith(CONNECTION)
    return isinstance(error, psycopg.OperationalError) and not str(error).startswith("connection ")
