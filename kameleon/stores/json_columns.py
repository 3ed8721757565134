"""Columns of mapped classes that the dialects render conditions on as on stored records: those of JSON, and what a path
into one leads to, and those of texts. Imports this package alone."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from sqlalchemy import Boolean, Dialect, Text, TypeDecorator, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from .filters import Comparison


class JSONComparison(FunctionElement[bool]):
    """Whether a column's document compares so; the path is within the document."""

    type = Boolean()
    inherit_cache = False

    def __init__(self, column: Any, compared: Comparison) -> None:
        self.compared = compared
        super().__init__(column)


class TextComparison(FunctionElement[bool]):
    """Whether a column's text compares so: a pattern, or $contains."""

    type = Boolean()
    inherit_cache = False

    def __init__(self, column: Any, compared: Comparison) -> None:
        self.compared = compared
        super().__init__(column)


class JSONDocument(TypeDecorator[Any]):
    """JSON that is read as text."""

    impl = Text
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class JSONText(FunctionElement[Any]):
    """What a path into a column's document leads to, as JSON; NULL where it leads to nothing."""

    type = JSONDocument()
    inherit_cache = False

    def __init__(self, column: Any, path: Sequence[str]) -> None:
        self.path = path
        super().__init__(column)


@compiles(JSONComparison)
def _comparison(element: JSONComparison, compiler: Any, **options: Any) -> str:
    binds: dict[str, Any] = {}
    rendering = import_module(f".{compiler.dialect.name}.where", __package__)
    document = rendering.DOCUMENT.format(_column(element, compiler, options))
    return _with_binds(rendering.comparison(element.compared, binds, document), binds, compiler, options)


@compiles(TextComparison)
def _text_comparison(element: TextComparison, compiler: Any, **options: Any) -> str:
    binds: dict[str, Any] = {}
    rendering = import_module(f".{compiler.dialect.name}.where", __package__)
    made = rendering.on_text(_column(element, compiler, options), element.compared, binds)
    return _with_binds(made, binds, compiler, options)


@compiles(JSONText)
def _text(element: JSONText, compiler: Any, **options: Any) -> str:
    binds: dict[str, Any] = {}
    rendering = import_module(f".{compiler.dialect.name}.where", __package__)
    document = rendering.DOCUMENT.format(_column(element, compiler, options))
    return _with_binds(rendering.json_text(document, element.path, binds), binds, compiler, options)


def _column(element: FunctionElement[Any], compiler: Any, options: Mapping[str, Any]) -> str:
    (column,) = element.clauses
    return str(compiler.process(column, **options))


def _with_binds(sql: str, binds: Mapping[str, Any], compiler: Any, options: Mapping[str, Any]) -> str:
    """The SQL with SQLAlchemy's binds, whose names are of one statement."""
    made: dict[str, Any] = {name: bindparam(name, value, unique=True) for name, value in binds.items()}
    named = re.sub(r"(?<!\\):(where\d+)", lambda found: compiler.process(made[found[1]], **options), sql)
    return named.replace("\\:", ":")
