"""Private attributes of SQLAlchemy where there is no public one, beside those of `async_connections`.
`tests/test_sqlalchemy_internals.py` holds each against the SQLAlchemy that is installed. Imports nothing of
kameleon's."""

import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Engine, QueuePool


def has_room(pool: QueuePool) -> bool:
    """Whether a pool can give another connection without waiting. A pool reports its size and what is checked out, but
    not its `max_overflow`."""
    return pool._max_overflow < 0 or pool.checkedout() < pool.size() + pool._max_overflow


def commits_each_statement(connection: Connection) -> bool:
    """Whether the connection is in AUTOCOMMIT mode. `get_isolation_level()` queries the database, whose answer on
    SQLite does not include the driver's mode."""
    return connection._is_autocommit_isolation()


def root_engine(engine: Engine) -> Engine:
    """The engine of which `execution_options` made this one, itself for any other. No public attribute leads there; a
    listener of it is called for all of them, one of the derived engine for that alone."""
    while (inner := getattr(engine, "_proxied", None)) is not None:
        engine = inner
    return engine


def deleted_objects(flush_context: Any) -> list[Any]:
    """The objects that a flush deleted, in `after_flush`. `session.deleted` does not include orphans, and the event
    `persistent_to_deleted` is fired after it. `UOWTransaction.states` is not documented."""
    return [state.obj() for state, (deletes, is_listed) in flush_context.states.items() if deletes and not is_listed]


def prefixes(statement: Any) -> str:
    """The prefixes of an insert, update or delete, as `OR REPLACE`. `prefix_with` sets them; nothing returns them."""
    return " ".join(str(prefix) for prefix, _ in getattr(statement, "_prefixes", ()))


def has_conflict_clause(insert: Any) -> bool:
    """Whether an insert has a clause for conflicts. The dialects' methods set it; nothing returns it."""
    return insert._post_values_clause is not None


def has_value_lists(insert: Any) -> bool:
    """Whether `values` of an insert was given several rows. Nothing but the compiled statement shows them."""
    return bool(insert._multi_values)


def assigned_in(update: Any) -> list[Any]:
    """The columns, or their names, that `values` or `ordered_values` of an update set. Compiling the statement would
    show columns alone, and fails without its parameters. SQLAlchemy 2.1 has no `_ordered_values`."""
    ordered: Iterable[Any] = getattr(update, "_ordered_values", None) or ()
    return [*(update._values or ()), *(pair[0] for pair in ordered)]


def with_expanding_binds(sql: str, names: str) -> str:
    """Compiled SQL in which the binds that `names`, a regular expression, matches, where they are lists, are `:name` as
    `text()` takes them. Compiling with `render_postcompile` would render the values' own binds, and lose the type of
    the list. Others that the compiler renders in a form of its own stay; `has_other_binds` finds them."""
    return re.sub(rf"\(__\[POSTCOMPILE_({names})\]\)", r":\1", sql)


def has_other_binds(sql: str) -> bool:
    return "__[POSTCOMPILE_" in sql
