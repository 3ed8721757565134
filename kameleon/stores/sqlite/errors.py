"""Translates errors of SQLite into kameleon's, with the next step. Imports `errors` and `sqlite_files`."""

from ...errors import DatabaseLocked, SchemaMissing, StorageError
from ...sqlite_files import is_in_read_only_folder, path_of, unread_log

BUSY, BUSY_SNAPSHOT = 5, 517

FOLDER = ("attempt to write a readonly database", "unable to open database file")
NEXT_STEPS = {
    "database or disk is full": "Nothing of this transaction was stored. Make room on its disk, or raise "
    "PRAGMA max_page_count where that is the limit, and try again",
    "disk I/O error": "Nothing of this transaction was stored. Its disk may be full, over a quota or failing: see to "
    "that, and try again",
    "attempt to write a readonly database": "To write, open it without mode=ro, immutable=1 and PRAGMA query_only, as "
    "a user who may write the file and its folder",
    "unable to open database file": "Its folder has to be there, and be writable for the files beside it (-wal, -shm)",
    "database disk image is malformed": "Restore the file from a backup, or try the sqlite3 shell's .recover",
    "file is not a database": "--database, KAMELEON_URL or create_engine names a file of SQLite",
}


def storage_error(error: BaseException, file: str | None) -> StorageError:
    """`error` is the driver's, `file` the one that its engine opened."""
    message = str(error)
    if "no such table: kdb_" in message:
        return SchemaMissing(no_tables(file))
    if getattr(error, "sqlite_errorcode", None) == BUSY_SNAPSHOT:
        return DatabaseLocked(
            "another process wrote since this transaction began to read, so it cannot write any more. Roll it back and "
            "repeat it; a transaction that writes before it reads waits for the write lock instead"
        )
    if "locked" in message or "busy" in message:
        return DatabaseLocked(
            f"{message}: another process is writing. Try again, keep transactions short, or raise the time-out: "
            "create_engine(url, connect_args={'timeout': 30})"
        )
    cure = NEXT_STEPS.get(message, "") + (read_only(file) if message in FOLDER else "")
    return StorageError(
        f"SQLite reports for {file or ':memory:'}: {message}. {cure}" if cure else f"SQLite reports: {message}"
    )


def read_only(file: str | None) -> str:
    """How a file with a write-ahead log is searched in a folder that may only be read; empty for other folders."""
    path = path_of(file)
    if path is None or not is_in_read_only_folder(path):
        return ""
    if unread_log(path):
        return (
            f". To search it in its read-only folder its write-ahead log must be empty: where it may be written, run "
            f"PRAGMA wal_checkpoint(TRUNCATE), or copy it together with {path.name}-wal to a folder that may be written"
        )
    return (
        ". To search it in its read-only folder, open it with kameleon.create_engine, or as "
        "sqlite:///file:PATH?immutable=1&uri=true"
    )


def no_tables(file: str | None) -> str:
    """Which calls make the tables; where those of a database in memory are."""
    made = (
        "kameleon's tables are not in this database. `kameleon table add TABLE --text COLUMN` or `kameleon data insert "
        "ENTITY < FILE` makes them, or SearchEngine(engine); with create_tables=False a migration must, and "
        "with namespace= those of that namespace are looked for"
    )
    if path_of(file):
        return made
    return f"{made}. A SQLite database in memory is another one for each thread, unless kameleon.create_engine opens it"
