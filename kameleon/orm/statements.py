"""ORM-enabled inserts, updates and deletes: finds the rows that each writes. Imports `errors`, `sqlalchemy_internals`
and `stores`.

Their objects are not in the session, so no flush shows them. Keys are taken from the parameters, or queried before the
statement runs, or returned by it; the contents are read when the transaction commits.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Mapper, ORMExecuteState

from ..errors import InvalidInput
from ..sqlalchemy_internals import assigned_in, has_conflict_clause, has_value_lists, prefixes
from ..stores.tables import IDS_A_STATEMENT, parts
from .attributes import assigned_columns
from .binds import Binds
from .capture import Capture, Keys
from .identity import key_attributes, key_names


def execute(capture: Capture, binds: Binds, state: ORMExecuteState) -> Any:
    """Capture what an ORM-enabled insert, update or delete changes; returns its result where it had to be run here."""
    mapper = state.bind_mapper
    if not state.is_orm_statement or mapper is None or not capture.is_indexed(mapper):
        return None
    named = _named_keys(mapper, state.parameters)
    with capture.replaced_rows(state.session, mapper, prefixes(state.statement)) as is_replacing:
        if state.is_insert:
            capture.acquire_write_lock(state.session, mapper)
            result = _insert(capture, state, mapper, named)
        elif is_replacing or state.is_delete or capture.is_indexed(mapper, _assigned(state, mapper, named)):
            keys = parts(named, IDS_A_STATEMENT) if state.is_update and named else _matching_keys(binds, state, mapper)
            result = _update_or_delete(capture, state, mapper, keys)
        else:
            return None
        return state.invoke_statement() if is_replacing and result is None else result


def _update_or_delete(capture: Capture, state: ORMExecuteState, mapper: Mapper[Any], keys: Iterable[Keys]) -> Any:
    capture.begin_writing(state.session, mapper)
    if not capture.repeats(state.session, mapper):
        capture.rows(state.session, mapper, keys)
        return None
    matched = [[tuple(key) for key in part] for part in keys]
    capture.rows(state.session, mapper, matched)
    result = state.invoke_statement()
    capture.rows(state.session, mapper, matched)
    return result


def _insert(capture: Capture, state: ORMExecuteState, mapper: Mapper[Any], keys: Keys | None) -> Any:
    statement: Any = state.statement
    has_clause = has_conflict_clause(statement)
    if keys is not None and not has_clause:
        capture.rows(state.session, mapper, parts(keys, IDS_A_STATEMENT))
        return state.invoke_statement() if capture.repeats(state.session, mapper) else None
    is_plain = not (state.parameters or has_value_lists(statement)) and statement.select is None
    if is_plain and not has_clause and not len(statement.exported_columns):
        result: Any = state.invoke_statement()
        capture.rows(state.session, mapper, [[result.inserted_primary_key]])
        return result
    return _insert_returning(capture, state, mapper)


def _insert_returning(capture: Capture, state: ORMExecuteState, mapper: Mapper[Any]) -> Any:
    """Insert with the keys beside what the statement returns. A result that returned nothing still has its row
    count."""
    statement: Any = state.statement
    columns = [key.label(f"kameleon_key{n}") for n, key in enumerate(key_attributes(mapper))]
    frozen = state.invoke_statement(statement=statement.returning(*columns)).freeze()
    keys = [tuple(row)[-len(columns) :] for row in frozen()]
    capture.rows(state.session, mapper, parts(keys, IDS_A_STATEMENT))
    result: Any = frozen()
    if len(statement.exported_columns):
        return result.columns(*range(len(result.keys()) - len(columns)))
    result.rowcount, result.returns_rows = len(keys), False
    result.inserted_primary_key = keys[0] if len(keys) == 1 else None
    result.close()
    return result


def _named_keys(mapper: Mapper[Any], parameters: Any) -> Keys | None:
    """The keys that a list of parameters names, as in an update by primary key; None where it does not."""
    if not isinstance(parameters, list):
        return None
    names = key_names(mapper)
    keys = [[row.get(name) for name in names] for row in parameters]
    return keys if keys and not any(None in key for key in keys) else None


def _matching_keys(binds: Binds, state: ORMExecuteState, mapper: Mapper[Any]) -> Iterator[Keys]:
    """The keys of the rows that an update or delete will match."""
    statement: Any = state.statement
    if state.is_update:
        _refuse_new_keys(mapper, _set_by(state))
    query = select(*key_attributes(mapper)).options(*state.user_defined_options)
    if statement.whereclause is not None:
        query = query.where(statement.whereclause)
    if state.session.autoflush:
        state.session.flush()
    connection = binds.connection_to(state.session, mapper)
    if connection is None:
        return
    sets = state.parameters if isinstance(state.parameters, list) else [state.parameters]
    for values in sets:
        yield from connection.execute(query, values).partitions(IDS_A_STATEMENT)


def _set_by(state: ORMExecuteState) -> list[Any]:
    """What an update sets, as columns or names; the names of its binds may be among them."""
    sets = state.parameters if isinstance(state.parameters, list) else [state.parameters or {}]
    return [*assigned_in(state.statement), *{name for values in sets for name in values}]


def _assigned(state: ORMExecuteState, mapper: Mapper[Any], named: Keys | None) -> frozenset[str] | None:
    """The columns that an update sets; None for any. `named` are the keys of its parameters, which it does not set. A
    name that is neither an attribute nor a column is that of a bind in its condition."""
    keys = set(key_names(mapper)) if named is not None else set()
    names = [name for name in _set_by(state) if not isinstance(name, str) or name not in keys]
    columns = [name for name in names if not isinstance(name, str) or _is_settable(mapper, name)]
    return assigned_columns(mapper, columns) if columns else None


def _is_settable(mapper: Mapper[Any], name: str) -> bool:
    return name in mapper.all_orm_descriptors or any(name in table.c for table in mapper.tables)


def _refuse_new_keys(mapper: Mapper[Any], assigned: Iterable[Any]) -> None:
    columns = {column.name for column in mapper.primary_key}
    names = {*key_names(mapper), *columns}
    for column in assigned:
        is_name = isinstance(column, str)
        if (column if is_name else column.name) in (names if is_name else columns):
            name = f"{mapper.class_.__name__}.{column if is_name else column.key}"
            raise InvalidInput(
                f"this update sets {name}, part of the primary key, on many rows at once: their entries in the index "
                "could not be followed. Change the key object by object"
            )
