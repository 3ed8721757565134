"""Statements that write many rows of a mapped class at once: whose rows those are.

Their objects are not in the session, so a flush shows nothing of them. Keys are taken from the parameters, or asked for
before the statement runs, or returned by it; what the rows say is read when the transaction commits.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect, select
from sqlalchemy.orm import Mapper, ORMExecuteState

from .errors import InvalidInput
from .identity import key_attributes, key_names, primary_key

if TYPE_CHECKING:
    from .listener import AttachedSession, Sessions

Keys = Sequence[Sequence[Any]]


def execute(sessions: "Sessions", state: ORMExecuteState) -> Any:
    """Hear an ORM-enabled insert, update or delete; its result where it had to be run here."""
    mapper = state.bind_mapper
    if not state.is_orm_statement or mapper is None or not sessions.is_heard(mapper):
        return None
    if state.is_insert:
        sessions.wait_to_write(state.session, mapper)
        return _insert(sessions, state, mapper)
    sessions.take_turn(state.session, mapper)
    keys = _named(mapper, state.parameters) if state.is_update else None
    keys = keys if keys is not None else _matching(sessions, state, mapper)
    sessions.hear_rows(state.session, mapper, keys)
    if not sessions.must_follow(state.session, mapper):
        return None
    result = state.invoke_statement()
    sessions.hear_rows(state.session, mapper, keys)
    return result


def bulk_save(
    session: "AttachedSession", objects: list[Any], save: Callable[..., None], options: dict[str, Any]
) -> None:
    mappers = {inspect(obj).mapper for obj in objects}
    known = {mapper for mapper in mappers if _hearing(session, mapper)}
    for mapper in known:
        _wait_to_write(session, mapper)
    heard = [obj for obj in objects if inspect(obj).mapper in known]
    _hear_objects(session, heard)
    if any(None in primary_key(obj) for obj in heard):
        options["return_defaults"] = True
    save(objects, **options)
    _hear_objects(session, heard)


def bulk_insert(
    session: "AttachedSession",
    mapper: Mapper[Any],
    rows: list[dict[str, Any]],
    insert: Callable[..., None],
    options: dict[str, Any],
) -> None:
    if not _hearing(session, mapper):
        insert(mapper, rows, **options)
        return
    names = key_names(mapper)
    _wait_to_write(session, mapper)
    inserted = rows
    if not options["return_defaults"] and not all(name in row for row in rows for name in names):
        inserted = [dict(row) for row in rows]
        options["return_defaults"] = True
    insert(mapper, inserted, **options)
    _hear(session, mapper, [[row[name] for name in names] for row in inserted])


def bulk_update(
    session: "AttachedSession", mapper: Mapper[Any], rows: list[dict[str, Any]], update: Callable[..., None]
) -> None:
    keys = [[row.get(name) for name in key_names(mapper)] for row in rows]
    _wait_to_write(session, mapper)
    _hear(session, mapper, keys)
    update(mapper, rows)
    _hear(session, mapper, keys)


def _hearing(session: "AttachedSession", mapper: Mapper[Any]) -> list["Sessions"]:
    return [own for own in session.kameleon if own.is_heard(mapper)]


def _wait_to_write(session: "AttachedSession", mapper: Mapper[Any]) -> None:
    for own in _hearing(session, mapper):
        own.wait_to_write(session, mapper)


def _hear(session: "AttachedSession", mapper: Mapper[Any], keys: Keys) -> None:
    for own in _hearing(session, mapper):
        own.hear_rows(session, mapper, keys)


def _hear_objects(session: "AttachedSession", objects: Sequence[Any]) -> None:
    by_class: dict[Mapper[Any], list[Sequence[Any]]] = {}
    for obj in objects:
        by_class.setdefault(inspect(obj).mapper, []).append(primary_key(obj))
    for mapper, keys in by_class.items():
        _hear(session, mapper, keys)


def _insert(sessions: "Sessions", state: ORMExecuteState, mapper: Mapper[Any]) -> Any:
    statement: Any = state.statement
    keys = _named(mapper, state.parameters)
    if keys is not None and statement._post_values_clause is None:
        sessions.hear_rows(state.session, mapper, keys)
        return state.invoke_statement() if sessions.must_follow(state.session, mapper) else None
    is_plain = not (state.parameters or statement._multi_values) and statement.select is None
    if is_plain and statement._post_values_clause is None and not statement._returning:
        result: Any = state.invoke_statement()
        sessions.hear_rows(state.session, mapper, [result.inserted_primary_key])
        return result
    return _insert_returning(sessions, state, mapper)


def _insert_returning(sessions: "Sessions", state: ORMExecuteState, mapper: Mapper[Any]) -> Any:
    """The keys beside what the statement returns anyway. What returned nothing still knows how many rows it was."""
    statement: Any = state.statement
    columns = [key.label(f"kameleon_key{n}") for n, key in enumerate(key_attributes(mapper))]
    frozen = state.invoke_statement(statement=statement.returning(*columns)).freeze()
    keys = [tuple(row)[-len(columns) :] for row in frozen()]
    sessions.hear_rows(state.session, mapper, keys)
    result: Any = frozen()
    if statement._returning:
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


def _matching(sessions: "Sessions", state: ORMExecuteState, mapper: Mapper[Any]) -> Keys:
    """The keys of the rows that an update or delete is about to meet."""
    statement: Any = state.statement
    if state.is_update:
        given = state.parameters if isinstance(state.parameters, dict) else ()
        _refuse_moved(mapper, [*(statement._values or ()), *(pair[0] for pair in _ordered(statement)), *given])
    wanted = select(*key_attributes(mapper)).options(*state.user_defined_options)
    if statement.whereclause is not None:
        wanted = wanted.where(statement.whereclause)
    if state.session.autoflush:
        state.session.flush()
    connection = sessions.binds.connection_to(state.session, mapper)
    if connection is None:
        return []
    sets = state.parameters if isinstance(state.parameters, list) else [state.parameters]
    return [tuple(row) for values in sets for row in connection.execute(wanted, values)]


def _ordered(statement: Any) -> Any:
    """What `ordered_values` was given; SQLAlchemy 2.1 keeps it among the values."""
    return getattr(statement, "_ordered_values", None) or ()


def _refuse_moved(mapper: Mapper[Any], assigned: Sequence[Any]) -> None:
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
