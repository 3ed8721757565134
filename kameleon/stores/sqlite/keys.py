"""Primary keys of mapped classes in SQLite's SQL. Imports this package alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Dialect, func

from ..tables import id_text
from ..values import KeyRows


@dataclass(eq=False)
class SQLiteKeys:
    _dialect: Dialect

    def id_text(self, columns: Sequence[tuple[Any, str]]) -> ColumnElement[str]:
        return id_text(columns, func.json_quote)

    def in_utc(self, column: Any) -> Any:
        """SQLAlchemy stores these without their zone, which filters take for UTC."""
        return column

    def representable(self, column: Any) -> Any:
        """SQLAlchemy stores no other."""
        return column

    def rows(self, columns: Sequence[tuple[Any, str]], keys: Sequence[Sequence[Any]]) -> KeyRows:
        """A row of `json_each` for each key: what the database holds of it, or a list of that."""
        stored: list[Any] = [stored_values(columns, key, self._dialect) for key in keys]
        is_single = len(columns) == 1
        if is_single:
            stored = [value for (value,) in stored]
        rows = func.json_each(json.dumps(stored)).table_valued("key", "value", name="kameleon_hits")
        paths = [f"$[{place}]" for place in range(len(columns))]
        parts = [rows.c.value] if is_single else [func.json_extract(rows.c.value, path) for path in paths]
        return KeyRows(rows, parts, rows.c.key)


def stored_values(columns: Sequence[tuple[Any, str]], key: Sequence[Any], dialect: Dialect) -> list[Any]:
    """Returns a primary key's values as the database holds them: whole numbers and texts."""
    found = []
    for (column, _), value in zip(columns, key, strict=True):
        to_database = column.type.dialect_impl(dialect).bind_processor(dialect)
        found.append(to_database(value) if to_database else value)
    return found
