"""Opens SQLite files with a write-ahead log in folders that may only be read. Imports nothing of kameleon's.

SQLite makes `-wal` and `-shm` files beside such a database even to read it, unless its URI declares the file immutable
(`immutable=1`). That is right only where the log holds nothing.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from sqlalchemy import URL, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DisconnectionError

STATE = "kameleon_immutable"


def path_of(database: str | None) -> Path | None:
    """The file that a driver opens, from a path or a `file:` URI; None for a database in memory."""
    if not database or database == ":memory:":
        return None
    if not database.startswith("file:"):
        return Path(database)
    place, _, query = database.partition("?")
    path = unquote(place.removeprefix("file:").removeprefix("//"))
    return None if not path or path == ":memory:" or "mode=memory" in query else Path(path)


def read_only(url: URL) -> URL:
    """The URL that opens a SQLite file without changing it; another URL as it is."""
    path = path_of(url.database) if url.get_backend_name() == "sqlite" else None
    if path is None or str(url.database).startswith("file:"):
        return url
    return url.set(database=path.absolute().as_uri(), query={**url.query, "mode": "ro", "uri": "true"})


def is_in_read_only_folder(path: Path) -> bool:
    """Whether the files of a write-ahead log are missing and cannot be made."""
    return path.is_file() and not beside(path, "-shm").exists() and not os.access(path.parent, os.W_OK)


def unread_log(path: Path) -> bool:
    """Whether the write-ahead log may hold what the file lacks."""
    try:
        return beside(path, "-wal").stat().st_size > 0
    except OSError:
        return False


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def open_read_only_files(engine: Engine) -> None:
    """Have the engine open a file with an empty write-ahead log in a read-only folder as immutable, and again as soon
    as the file changed."""
    event.listen(engine, "do_connect", _connecting)
    event.listen(engine, "checkout", _checked_out)


def _connecting(dialect: Any, record: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
    database = arguments[0] if arguments else None
    path = path_of(database) if isinstance(database, str) else None
    record.info.pop(STATE, None)
    if path is None or not is_in_read_only_folder(path) or unread_log(path):
        return None
    if _can_read(dialect, arguments, options):
        return None
    query = parse_qsl(str(database).partition("?")[2]) if str(database).startswith("file:") else []
    uri = f"{path.absolute().as_uri()}?{urlencode([*query, ('immutable', '1')])}"
    record.info[STATE] = path, _state(path)
    return dialect.connect(uri, *arguments[1:], **{**options, "uri": True})


def _can_read(dialect: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> bool:
    """Whether the file opens as it is, without a write-ahead log. SQLite finds out: to open and close the file in any
    other way would take back the locks of this process's other connections
    (https://www.sqlite.org/howtocorrupt.html, 2.2)."""
    driver = dialect.connect(*arguments, **options)
    try:
        driver.cursor().execute("SELECT 1 FROM sqlite_master LIMIT 1")
    except dialect.dbapi.OperationalError:
        return False
    else:
        return True
    finally:
        driver.close()


def _checked_out(_driver: Any, record: Any, _proxy: Any) -> None:
    path, state = record.info.get(STATE, (None, None))
    if path is not None and (_state(path) != state or unread_log(path)):
        raise DisconnectionError(f"{path} changed since it was opened")


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
