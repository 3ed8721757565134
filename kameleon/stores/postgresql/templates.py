"""Fills in the templates of `statements`: names of tables, types and operators. Imports `values` and `errors`."""

import re
from typing import Any, NamedTuple

from sqlalchemy import Connection, TextClause, text

from ...errors import InvalidInput
from ...values import Generation
from ..names import DEFAULT, TABLES, Names
from . import statements as sql

MAX_VECTOR, MAX_HALFVEC = 2_000, 4_000
"""The dimensions that pgvector indexes in columns of `vector` and of `halfvec`."""
HALFVEC_SINCE, ITERATIVE_SINCE = (0, 7), (0, 8)
"""Versions of pgvector."""
MAX_EF_SEARCH = 1_000
"""The largest `hnsw.ef_search` that pgvector takes."""
RENDERED_KEPT = 1_000
"""Bounds the statements that are remembered: scopes and filters render others. Chosen, not measured."""
KEY_CONDITIONS = {
    "keys": sql.KEYS,
    **{f"{alias}_is_key": sql.IS_KEY.format(alias) for alias in "se"},
    **{f"{alias}_in_keys": sql.IN_KEYS.format(alias, keys=sql.KEYS) for alias in "se"},
}
"""Conditions on rows of keys."""
NAME_BYTES = 63
"""PostgreSQL truncates longer names."""


class PgVector(NamedTuple):
    """The extension: `schema` is quoted."""

    schema: str
    version: tuple[int, ...]


class Templates:
    """`own` are the names of the namespace, `names` those of its tables with their schema.

    `m` and `ef_construction` are those of an HNSW index that is built from now on, `ef_search` is how far a search
    looks in it at first."""

    def __init__(self, schema: str | None, m: int, ef_construction: int, ef_search: int, own: Names = DEFAULT) -> None:
        self.schema, self.own = schema, own
        self.prefix = f'"{schema}".' if schema else ""
        self.names = {name: f"{self.prefix}{own.prefix}{name}" for name in TABLES}
        self._shared = {**self.names, **KEY_CONDITIONS, "fence": "OFFSET 0", "prefix": self.prefix}
        self.pgvector: PgVector | None = None
        self.has_citus = False
        self._rendered: dict[Any, str] = {}
        self.m = m
        self.ef_search = ef_search
        self._hnsw_options = {"m": str(m), "ef_construction": str(ef_construction)}

    def load_extensions(self, connection: Connection) -> PgVector | None:
        self._rendered.clear()
        for name, version, schema in connection.execute(sql.EXTENSIONS):
            if name == "vector":
                self.pgvector = PgVector(schema, tuple(int(part) for part in re.findall(r"\d+", version)))
            else:
                self.has_citus = True
                self._shared["fence"] = ""
        return self.pgvector

    def embedding(self, generation: Generation) -> str:
        return f"{self.prefix}{self.own.embeddings(generation.number)}"

    def hnsw(self, generation: Generation, number: int | None = None) -> str:
        """Returns the name of the index over all, or over the tenant of a number."""
        return f"{self.prefix}{self.hnsw_name(generation, number)}"

    def hnsw_name(self, generation: Generation, number: int | None = None) -> str:
        """Returns the same without the schema."""
        of_tenant = "" if number is None else f"_{number % 2**64:016x}"
        return f"{self.own.embeddings(generation.number)}_hnsw{of_tenant}"

    def hnsw_settings(self, ef_search: int) -> list[str]:
        """Renders the settings of a search in an HNSW index; none without pgvector."""
        if self.pgvector is None:
            return []
        iterative = ["hnsw.iterative_scan = relaxed_order"] if self.pgvector.version >= ITERATIVE_SINCE else []
        return [f"hnsw.ef_search = {min(MAX_EF_SEARCH, ef_search)}", *iterative]

    def try_lock(self, generation: Generation) -> str:
        """Renders a statement that takes the lock of a build of its index, without waiting."""
        return sql.TRY_LOCK.format(name=self.embedding(generation).replace("'", "''"))

    def text(self, template: str, generation: Generation | None = None, **more: str) -> TextClause:
        return text(self.format(template, generation, **more))

    def format(self, template: str, generation: Generation | None = None, **more: str) -> str:
        key = (template, generation and (generation.number, generation.dimensions), *more.items())
        rendered = self._rendered.get(key)
        if rendered is None:
            names = {**self._shared, **self._names_of(generation)} if generation is not None else self._shared
            rendered = self.own(template).format(**names, **more)
            if len(self._rendered) >= RENDERED_KEPT:
                self._rendered.clear()
            self._rendered[key] = rendered
        return rendered

    def _names_of(self, generation: Generation) -> dict[str, str]:
        names = {
            "number": str(generation.number),
            "embedding": self.embedding(generation),
            "dimensions": str(generation.dimensions),
            **self._hnsw_options,
        }
        if self.pgvector is not None:
            kind = "halfvec" if generation.dimensions > MAX_VECTOR else "vector"
            names["vector"] = f"{self.pgvector.schema}.{kind}"
            names["halfvec"] = f"{self.pgvector.schema}.halfvec({generation.dimensions})"
            names["halfvec_ip_ops"] = f"{self.pgvector.schema}.halfvec_ip_ops"
            names["ip"] = f"OPERATOR({self.pgvector.schema}.<#>)"
        return names


def check_schema(name: object) -> None:
    """Raises InvalidInput for a schema that statements cannot name: it is quoted, and between $kdb$ in the literal that
    renders other statements. None is the first schema of the search path."""
    if name is None:
        return
    is_short = isinstance(name, str) and 0 < len(name.encode("utf-8", "surrogatepass")) <= NAME_BYTES
    text = str(name)
    if not is_short or not text.isprintable() or set(text) & set('%:"') or "$kdb$" in text:
        raise InvalidInput(
            f'schema is a name of at most {NAME_BYTES} bytes without %, :, " and $kdb$, not {name!r:.80}'
        )
