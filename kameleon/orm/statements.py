"""Statements that write many rows of a mapped class at once: whose rows those are.

Their objects are not in the session, so a flush shows nothing of them. Keys are taken from the parameters, or asked for
before the statement runs, or returned by it; what the rows say is read when the transaction commits.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect, select
from sqlalchemy.orm import Mapper, ORMExecuteState

from ..errors import InvalidInput
from ..stores.tables import IDS_A_STATEMENT, parts
from .identity import key_attributes, key_names, primary_key
from .mapping import assigned_columns

if TYPE_CHECKING:
    from .events import AttachedSession, Sessions

Keys = Sequence[Sequence[Any]]
Assigned = frozenset[str] | None


class MatchedKeys:
    """Primary keys of many rows, in parts; those of one whole number each take eight bytes."""

    def __init__(self) -> None:
        self._parts: list[Keys | array[int]] = []

    def add(self, rows: Keys) -> None:
        self._parts.append(packed(rows))

    def __iter__(self) -> Iterator[Keys]:
        return ([(key,) for key in part] if isinstance(part, array) else part for part in self._parts)


def packed(rows: Keys) -> "Keys | array[int]":
    try:
        return array("q", [key for (key,) in rows])
    except (ValueError, TypeError, OverflowError):
        return [tuple(row) for row in rows]


def execute(sessions: "Sessions", state: ORMExecuteState) -> Any:
    """Note what an ORM-enabled insert, update or delete changes; its result where it had to be run here."""
    mapper = state.bind_mapper
    if not state.is_orm_statement or mapper is None or not sessions.is_indexed(mapper):
        return None
    with sessions.noting_replaced(state.session, mapper, _prefixes(state)) as is_replacing:
        if state.is_insert:
            sessions.acquire_write_lock(state.session, mapper)
            result = _insert(sessions, state, mapper)
        elif is_replacing or state.is_delete or sessions.is_indexed(mapper, _assigned(state, mapper)):
            result = _update_or_delete(sessions, state, mapper)
        else:
            return None
        return state.invoke_statement() if is_replacing and result is None else result


def _update_or_delete(sessions: "Sessions", state: ORMExecuteState, mapper: Mapper[Any]) -> Any:
    sessions.begin_writing(state.session, mapper)
    named = _named(mapper, state.parameters) if state.is_update else None
    keys = parts(named, IDS_A_STATEMENT) if named is not None else _matching(sessions, state, mapper)
    matched = MatchedKeys()
    for part in keys:
        matched.add(part)
    sessions.note_rows(state.session, mapper, matched)
    if not sessions.must_follow(state.session, mapper):
        return None
    result = state.invoke_statement()
    sessions.note_rows(state.session, mapper, matched)
    return result


def _prefixes(state: ORMExecuteState) -> str:
    """What stands between INSERT or UPDATE and the rest."""
    return " ".join(str(prefix) for prefix, _ in getattr(state.statement, "_prefixes", ()))


def bulk_save(
    session: "AttachedSession", objects: list[Any], save: Callable[..., None], options: dict[str, Any]
) -> None:
    changed_only = options["update_changed_only"]
    noted = [obj for obj in objects if _indexing(session, inspect(obj).mapper, _saved(obj, changed_only))]
    for mapper in {inspect(obj).mapper for obj in noted}:
        _acquire_write_lock(session, mapper)
    _note_objects(session, noted)
    if any(None in primary_key(obj) for obj in noted):
        options["return_defaults"] = True
    with _noting_replaced(session, {inspect(obj).mapper for obj in noted}):
        save(objects, **options)
    _note_objects(session, noted)


def _saved(obj: Any, changed_only: bool) -> Assigned:
    """The columns that saving an object sets; None for all."""
    state = inspect(obj)
    if not state.has_identity or not changed_only:
        return None
    return assigned_columns(state.mapper, [name for name, one in state.attrs.items() if one.history.has_changes()])


def bulk_insert(
    session: "AttachedSession",
    mapper: Mapper[Any],
    rows: list[dict[str, Any]],
    insert: Callable[..., None],
    options: dict[str, Any],
) -> None:
    if not _indexing(session, mapper):
        insert(mapper, rows, **options)
        return
    names = key_names(mapper)
    _acquire_write_lock(session, mapper)
    inserted = rows
    if not options["return_defaults"] and not all(name in row for row in rows for name in names):
        inserted = [dict(row) for row in rows]
        options["return_defaults"] = True
    with _noting_replaced(session, [mapper]):
        insert(mapper, inserted, **options)
    _note(session, mapper, [[row[name] for name in names] for row in inserted])


def bulk_update(
    session: "AttachedSession", mapper: Mapper[Any], rows: list[dict[str, Any]], update: Callable[..., None]
) -> None:
    names = key_names(mapper)
    assigned = assigned_columns(mapper, {name for row in rows for name in row} - set(names))
    if not _indexing(session, mapper, assigned):
        update(mapper, rows)
        return
    keys = [[row.get(name) for name in names] for row in rows]
    _acquire_write_lock(session, mapper)
    _note(session, mapper, keys)
    with _noting_replaced(session, [mapper]):
        update(mapper, rows)
    _note(session, mapper, keys)


def _indexing(session: "AttachedSession", mapper: Mapper[Any], assigned: Assigned = None) -> list["Sessions"]:
    return [own for own in session.kameleon if own.is_indexed(mapper, assigned)]


@contextmanager
def _noting_replaced(session: "AttachedSession", mappers: Iterable[Mapper[Any]]) -> Iterator[None]:
    with ExitStack() as stack:
        for mapper in mappers:
            for own in _indexing(session, mapper):
                stack.enter_context(own.noting_replaced(session, mapper))
        yield


def _acquire_write_lock(session: "AttachedSession", mapper: Mapper[Any]) -> None:
    for own in _indexing(session, mapper):
        own.acquire_write_lock(session, mapper)


def _note(session: "AttachedSession", mapper: Mapper[Any], keys: Keys) -> None:
    for own in _indexing(session, mapper):
        own.note_rows(session, mapper, parts(keys, IDS_A_STATEMENT))


def _note_objects(session: "AttachedSession", objects: Sequence[Any]) -> None:
    by_class: dict[Mapper[Any], list[Sequence[Any]]] = {}
    for obj in objects:
        by_class.setdefault(inspect(obj).mapper, []).append(primary_key(obj))
    for mapper, keys in by_class.items():
        _note(session, mapper, keys)


def _insert(sessions: "Sessions", state: ORMExecuteState, mapper: Mapper[Any]) -> Any:
    statement: Any = state.statement
    keys = _named(mapper, state.parameters)
    if keys is not None and statement._post_values_clause is None:
        sessions.note_rows(state.session, mapper, parts(keys, IDS_A_STATEMENT))
        return state.invoke_statement() if sessions.must_follow(state.session, mapper) else None
    is_plain = not (state.parameters or statement._multi_values) and statement.select is None
    if is_plain and statement._post_values_clause is None and not len(statement.exported_columns):
        result: Any = state.invoke_statement()
        sessions.note_rows(state.session, mapper, [[result.inserted_primary_key]])
        return result
    return _insert_returning(sessions, state, mapper)


def _insert_returning(sessions: "Sessions", state: ORMExecuteState, mapper: Mapper[Any]) -> Any:
    """The keys beside what the statement returns anyway. What returned nothing still knows how many rows it was."""
    statement: Any = state.statement
    columns = [key.label(f"kameleon_key{n}") for n, key in enumerate(key_attributes(mapper))]
    frozen = state.invoke_statement(statement=statement.returning(*columns)).freeze()
    keys = [tuple(row)[-len(columns) :] for row in frozen()]
    sessions.note_rows(state.session, mapper, parts(keys, IDS_A_STATEMENT))
    result: Any = frozen()
    if len(statement.exported_columns):
        return result.columns(*range(len(result.keys()) - len(columns)))
    result.rowcount, result.returns_rows = len(keys), False
    result.inserted_primary_key = keys[0] if len(keys) == 1 else None
    result.close()
    return result


def _named(mapper: Mapper[Any], parameters: Any) -> Keys | None:
    """The keys that a list of parameters names, as in an update by primary key; None where it does not."""
    if not isinstance(parameters, list):
        return None
    names = key_names(mapper)
    keys = [[row.get(name) for name in names] for row in parameters]
    return keys if keys and not any(None in key for key in keys) else None


def _matching(sessions: "Sessions", state: ORMExecuteState, mapper: Mapper[Any]) -> Iterator[Keys]:
    """The keys of the rows that an update or delete is about to meet."""
    statement: Any = state.statement
    if state.is_update:
        _refuse_moved(mapper, _set_by(state))
    wanted = select(*key_attributes(mapper)).options(*state.user_defined_options)
    if statement.whereclause is not None:
        wanted = wanted.where(statement.whereclause)
    if state.session.autoflush:
        state.session.flush()
    connection = sessions.binds.connection_to(state.session, mapper)
    if connection is None:
        return
    sets = state.parameters if isinstance(state.parameters, list) else [state.parameters]
    for values in sets:
        yield from connection.execute(wanted, values).partitions(IDS_A_STATEMENT)


def _set_by(state: ORMExecuteState) -> list[Any]:
    """What an update sets, as columns or names; the names of its binds may be among them."""
    statement: Any = state.statement
    sets = state.parameters if isinstance(state.parameters, list) else [state.parameters or {}]
    ordered = getattr(statement, "_ordered_values", None) or ()  # SQLAlchemy 2.1 keeps these among the values
    return [*(statement._values or ()), *(pair[0] for pair in ordered), *{name for values in sets for name in values}]


def _assigned(state: ORMExecuteState, mapper: Mapper[Any]) -> Assigned:
    """The columns that an update sets; None if that is not known. A name that is neither an attribute nor a column is
    that of a bind in its condition."""
    keys = set(key_names(mapper)) if _named(mapper, state.parameters) is not None else set()
    names = [name for name in _set_by(state) if not isinstance(name, str) or name not in keys]
    columns = [name for name in names if not isinstance(name, str) or _is_settable(mapper, name)]
    return assigned_columns(mapper, columns) if columns else None


def _is_settable(mapper: Mapper[Any], name: str) -> bool:
    return name in mapper.all_orm_descriptors or any(name in table.c for table in mapper.tables)


def _refuse_moved(mapper: Mapper[Any], assigned: Iterable[Any]) -> None:
    columns = {column.name for column in mapper.primary_key}
    names = {*key_names(mapper), *columns}
    for column in assigned:
        is_name = isinstance(column, str)
        if (column if is_name else column.name) in (names if is_name else columns):
            moved = f"{mapper.class_.__name__}.{column if is_name else column.key}"
            raise InvalidInput(
                f"this update sets {moved}, part of the primary key, on many rows at once: their entries in the index "
                "could not be followed. Change the key object by object"
            )
