"""Primary keys of mapped classes in PostgreSQL's SQL. Imports this package alone."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Text, and_, bindparam, case, cast, column, func, literal_column

from ..tables import id_text
from ..values import KeyRows


class PostgreSQLKeys:
    def id_text(self, columns: Sequence[tuple[Any, str]]) -> ColumnElement[str]:
        return id_text(columns, lambda text: cast(func.to_json(text), Text)).collate("C")

    def in_utc(self, column: Any) -> Any:
        return func.timezone("UTC", column)

    def representable(self, column: Any) -> Any:
        first: ColumnElement[Any] = literal_column("'0001-01-01'")
        end: ColumnElement[Any] = literal_column("'10000-01-01'")
        return case((and_(column >= first, column < end), column))

    def rows(self, columns: Sequence[tuple[Any, str]], keys: Sequence[Sequence[Any]]) -> KeyRows:
        """An array for each column, unnested side by side."""
        names = [f"k{place}" for place in range(len(columns))]
        arrays = [
            bindparam(None, list(values), type_=ARRAY(part.type), unique=True)
            for (part, _), values in zip(columns, zip(*keys, strict=True), strict=True)
        ]
        typed = [column(name, part.type) for name, (part, _) in zip(names, columns, strict=True)]
        rows = func.unnest(*arrays).table_valued(*typed, with_ordinality="place", name="kameleon_hits").render_derived()
        return KeyRows(rows, [rows.c[name] for name in names], rows.c.place)
