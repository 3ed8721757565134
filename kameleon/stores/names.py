"""The names of kameleon's tables, indexes and triggers: those of a namespace, beside those without one. Imports
`errors`.

Statements are written with the names of the default namespace, which begin with `kdb_`. In the namespace `a` each of
these begins with `kdb_a_`.
"""

import re
from functools import lru_cache
from typing import overload

from sqlalchemy import MetaData, TextClause, text

from ..errors import InvalidInput, seen

PREFIX = "kdb_"
TABLES = (
    *("search", "records", "embedding_cache", "meta", "generation", "entities", "tenanted", "class", "table"),
    *("synonym", "query_rule", "judgement", "queue", "dirty", "reindex", "reindex_range", "tail", "dead", "segment"),
    *("word", "posting", "terms"),
)
"""Those of every namespace. Beside them are a table of embeddings for each generation, and on SQLite their log."""
OLD_TABLES = ("search_fts", "search_vocab", "term")
"""Those of older schema versions."""
OWN_TABLE = re.compile(rf"({'|'.join((*TABLES, *OLD_TABLES))}|embedding_log|embedding_g\d+)")
NAMESPACE = re.compile(r"[a-z][a-z0-9]{0,19}")
TEMPORARY = ("joined", "kept", "loading", "preserved", "replaced", "shared", "tenant", "track", "worker")
"""How the names of what is no table begin: savepoints, temporary tables, policies, triggers."""
RESERVED = {name.partition("_")[0] for name in (*TABLES, *OLD_TABLES, "embedding", *TEMPORARY)}
"""Of a namespace of such a name a table could be taken for one of the default namespace."""
STATEMENTS_KEPT = 2_000
"""Bounds the statements that are remembered with the names of a namespace: there are 200. Chosen, not measured."""

NAMES = "kameleon_names"
"""The key of the names in the `info` of a MetaData."""
OF_RECORDS = re.compile(r"(?<![\w.\"'])records\.(?=(data|id|tenant)\b)")
"""A column of the table of records in a condition on `kdb_records AS records`."""


class Names:
    """Of one namespace, None for the default one, in which a name or statement is returned as it is. Raises
    InvalidInput for what is no name of a namespace."""

    def __init__(self, namespace: str | None = None) -> None:
        check_namespace(namespace)
        self.namespace = namespace
        self.prefix = PREFIX if namespace is None else f"{PREFIX}{namespace}_"

    @overload
    def __call__(self, statement: str) -> str: ...
    @overload
    def __call__(self, statement: TextClause) -> TextClause: ...
    def __call__(self, statement: str | TextClause) -> str | TextClause:
        """A name of the default namespace as it is in this one; a statement of kameleon's, or a part of one, with its
        names so. What is an application's is put in afterwards."""
        if self.namespace is None:
            return statement
        if isinstance(statement, str):
            return with_prefix(statement, self.prefix)
        return text_with_prefix(statement.text, self.prefix)

    def embeddings(self, number: int) -> str:
        """The table of a generation's embeddings."""
        return f"{self.prefix}embedding_g{number}"

    def on_table(self, condition: str) -> str:
        """A condition on `kdb_records AS records` as one on the table itself, without an alias."""
        return OF_RECORDS.sub(f"{self.prefix}records.", condition)

    def kept(self, table: str) -> str:
        """The temporary table that holds the rows of an old one while it is rebuilt."""
        return f"{self.prefix}kept_{table.removeprefix(self.prefix)}"

    def is_own(self, table: str) -> bool:
        """Whether a table of any schema version is this namespace's: others may begin with kdb_ too."""
        return table.startswith(self.prefix) and OWN_TABLE.fullmatch(table.removeprefix(self.prefix)) is not None


@lru_cache(STATEMENTS_KEPT)
def with_prefix(statement: str, prefix: str) -> str:
    return statement.replace(PREFIX, prefix)


@lru_cache(STATEMENTS_KEPT)
def text_with_prefix(statement: str, prefix: str) -> TextClause:
    return text(with_prefix(statement, prefix))


def named(metadata: MetaData, name: str) -> str:
    """A name of the default namespace as it is in that of these tables."""
    names: Names = metadata.info.get(NAMES, DEFAULT)
    return names(name)


def is_own_table(name: str) -> bool:
    """Whether a table is kameleon's, of any namespace and schema version."""
    namespace = name.removeprefix(PREFIX).partition("_")[0]
    return DEFAULT.is_own(name) or (is_namespace(namespace) and Names(namespace).is_own(name))


def is_namespace(name: object) -> bool:
    return isinstance(name, str) and NAMESPACE.fullmatch(name) is not None and name not in RESERVED


def check_namespace(name: object) -> None:
    """Raises InvalidInput for what is no name of a namespace; None is the default one."""
    if name is None or is_namespace(name):
        return
    if isinstance(name, str) and name in RESERVED:
        raise InvalidInput(
            f"the namespace {name!r} is refused: its tables, kdb_{name}_…, could be taken for others of kameleon's. "
            f"Choose another name; refused are {', '.join(sorted(RESERVED))}"
        )
    raise InvalidInput(
        f"a namespace is 1 to 20 small letters a-z and digits, a letter first, not {seen(name)}; None is the default"
    )


DEFAULT = Names()
