"""What others may see of a mapped class: its fields with types, and the values of its rows. Imports `content`,
`errors`, `stores` and `values`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    Connection,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Numeric,
    String,
    select,
)
from sqlalchemy.orm import ColumnProperty
from sqlalchemy.types import NullType

from ..content import check_tenant
from ..errors import StorageError, is_secret_column
from ..stores.tables import parts
from ..values import SearchResult, SearchResults
from .mapping import KEYS_A_STATEMENT, Mapped, objects, plain
from .registry import Mappings

TYPES: Sequence[tuple[Any, str]] = (
    (Boolean, "boolean"),
    (Integer, "integer"),
    (Numeric, "number"),
    (Float, "number"),
    (DateTime, "datetime"),
    (Date, "date"),
    (Enum, "text"),
    (ARRAY, "list"),
    (JSON, "object"),
    (String, "text"),
)
"""Types of columns, each before those that it is a kind of."""


@dataclass(frozen=True, slots=True)
class Described:
    """A field of a mapped class, as `entities.FieldDescription` has it. `is_shown`: its values are part of hits."""

    name: str
    type: str
    is_text: bool
    is_filterable: bool
    is_shown: bool


def described(mapped: Mapped) -> Iterator[Described]:
    """The texts that are no columns, and the columns. Nothing that is named as a secret is filterable or shown."""
    texts = mapped.declaration.fields
    for name in texts:
        if name not in mapped.mapper.column_attrs:
            yield Described(name, "text", is_text=True, is_filterable=False, is_shown=not is_secret_column(name))
    for attribute in mapped.mapper.column_attrs:
        yield _column(attribute, attribute.key in texts)


def _column(attribute: "ColumnProperty[Any]", is_text: bool) -> Described:
    column, name = attribute.columns[0], attribute.key
    kind = next((name for cls, name in TYPES if isinstance(column.type, cls)), "any")
    is_open = not is_secret_column(name)
    is_value = kind not in ("any", "object") and not column.primary_key and is_open
    is_shown = is_open and (is_text or is_value or isinstance(column.type, NullType))
    return Described(name, kind, is_text, is_value and not is_text, is_shown)


class RowData:
    """Gives hits of mapped classes the values of their rows. `reading` gives a connection for the rows of one class."""

    def __init__(self, mappings: Mappings, reading: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._mappings = mappings
        self._reading = reading

    def fill(self, found: SearchResults) -> SearchResults:
        """Replaces the hits by those with `data`, with a statement for each class, and one for each relationship that
        its texts come over. Those whose rows are gone, or cannot be read, stay without."""
        by_entity: dict[str, list[SearchResult]] = {}
        for hit in found:
            if hit.data is None:
                by_entity.setdefault(hit.entity, []).append(hit)
        made: dict[int, SearchResult] = {}
        for entity, hits in by_entity.items():
            if (mapped := self._mappings.named(entity)) is None:
                continue
            try:
                names = [field.name for field in described(mapped) if field.is_shown]
                with self._reading() as connection:
                    rows = rows_of(connection, mapped, names, list(dict.fromkeys(hit.id for hit in hits)))
            except StorageError as error:
                note = f"the rows of {entity} are not shown: {error}"
                found.plan = replace(found.plan, note="; ".join(filter(None, (found.plan.note, note))))
                continue
            made |= {id(hit): replace(hit, data=rows.get((hit.id, hit.tenant))) for hit in hits}
        found.groups = {name: [made.get(id(hit), hit) for hit in hits] for name, hits in found.groups.items()}
        found[:] = [made.get(id(hit), hit) for hit in found]
        return found


def rows_of(
    connection: Connection, mapped: Mapped, names: Sequence[str], ids: Sequence[str]
) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The values of these attributes of rows, by id and tenant; without rows that are gone."""
    is_in_python = mapped.has_tenants and mapped.tenant_column(mapped.owner.class_) is None
    is_of_columns = not is_in_python and all(name in mapped.mapper.column_attrs for name in names)
    read = _columns if is_of_columns else _objects
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for part in parts(ids, KEYS_A_STATEMENT):
        found |= read(connection, mapped, names, part)
    return found


def _columns(
    connection: Connection, mapped: Mapped, names: Sequence[str], ids: Sequence[str]
) -> dict[tuple[str, str], Mapping[str, Any]]:
    cls: Any = mapped.owner.class_
    keys = [column for column, _ in mapped.id_columns(cls)]
    tenant = mapped.tenant_column(cls)
    own = [*keys, *([] if tenant is None else [tenant])]
    wanted = select(*own, *(getattr(cls, name) for name in names)).select_from(cls)
    found = dict[tuple[str, str], Mapping[str, Any]]()
    for row in connection.execute(mapped.of_ids(mapped.without_concrete(wanted, cls), ids)):
        id_ = mapped.identity.id_of(row[: len(keys)])
        of = "" if tenant is None else check_tenant(row[len(keys)])
        found[id_, of] = values_of(zip(names, row[len(own) :], strict=True))
    return found


def _objects(
    connection: Connection, mapped: Mapped, names: Sequence[str], ids: Sequence[str]
) -> dict[tuple[str, str], Mapping[str, Any]]:
    found = dict[tuple[str, str], Mapping[str, Any]]()
    for obj in objects(connection, mapped.of_ids(mapped.rows(), ids)):
        key = mapped.ref_of(obj).id, mapped.tenant_of(obj)
        found[key] = values_of((name, value_of(obj, name)) for name in names)
    return found


def values_of(named: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Without those of a column without a type that are binary."""
    return {name: value for name, value in named if not isinstance(value, bytes | memoryview)}


def value_of(obj: Any, name: str) -> Any:
    """An attribute, None where it cannot be made."""
    try:
        return plain(getattr(obj, name))
    except Exception:  # noqa: BLE001 - the application's own code, which may raise anything
        return None
