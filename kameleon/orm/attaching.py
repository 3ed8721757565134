"""Attaches session factories to an index: makes the session classes whose events are listened to. Imports `errors`,
`stores` and `indexing`."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper, Session, scoped_session, sessionmaker

from ..errors import InvalidInput
from ..indexing.writer import Indexing, check_indexing
from ..stores.tables import IDS_A_STATEMENT, parts
from .attributes import assigned_columns
from .capture import Keys
from .identity import key_names, primary_key
from .sessions import Sessions

T = TypeVar("T")


def attach(sessions: Sessions, target: T, indexing: Indexing | None = None) -> T:
    """Make the sessions of a factory, or of the class that is returned, attached ones. Raises InvalidInput."""
    if indexing is not None:
        check_indexing(indexing)
    attached = partial(_attached_class, sessions, indexing)
    asyncio: Any = sys.modules.get("sqlalchemy.ext.asyncio")
    if isinstance(target, scoped_session) or (asyncio and isinstance(target, asyncio.async_scoped_session)):
        _check_unused(sessions, target)
        attach(sessions, target.session_factory, indexing)
    elif isinstance(target, sessionmaker):
        target.class_ = attached(target.class_)
    elif asyncio and isinstance(target, asyncio.async_sessionmaker):
        maker: Any = target
        maker.configure(
            sync_session_class=attached(maker.kw.get("sync_session_class") or maker.class_.sync_session_class)
        )
    elif isinstance(target, type) and issubclass(target, Session):
        return attached(target)  # type: ignore[return-value]
    elif asyncio and isinstance(target, type) and issubclass(target, asyncio.AsyncSession):
        cls: Any = target
        made = attached(cls.sync_session_class)
        return type(cls.__name__, (cls,), {"sync_session_class": made})  # type: ignore[return-value]
    else:
        raise InvalidInput(
            f"attach takes a sessionmaker, async_sessionmaker, scoped_session or a Session class, not {target!r:.80}"
        )
    return target


def _check_unused(sessions: Sessions, target: Any) -> None:
    if target.registry.has() and sessions not in getattr(getattr(target(), "sync_session", target()), "kameleon", ()):
        raise InvalidInput(
            f"this {type(target).__name__} has a session open whose changes would not be indexed: "
            "attach it before its first use, or call its .remove() first"
        )


def _attached_class(sessions: Sessions, indexing: Indexing | None, cls: type[Session]) -> type[Session]:
    before: tuple[Sessions, ...] = getattr(cls, "kameleon", ())
    chosen = {**getattr(cls, "kameleon_indexing", {})}
    if indexing is not None:
        chosen[sessions.index] = indexing
    if sessions in before:
        cls.kameleon_indexing = chosen  # type: ignore[attr-defined]
        return cls
    bases = (cls,) if issubclass(cls, AttachedSession) else (AttachedSession, cls)
    own = {"__module__": cls.__module__, "kameleon": (*before, sessions), "kameleon_indexing": chosen}
    made = type(cls.__name__, bases, own)
    sessions.listeners.listen_to_class(made)
    return made


class AttachedSession(Session):
    """Its `bulk_…` methods fire no event, so they are overridden."""

    kameleon: tuple[Sessions, ...] = ()

    def bulk_save_objects(
        self,
        objects: Iterable[object],
        return_defaults: bool = False,
        update_changed_only: bool = True,
        preserve_order: bool = True,
    ) -> None:
        saved = list(objects)
        by_mapper: dict[Mapper[Any], list[object]] = {}
        for obj in saved:
            mapper = inspect(obj).mapper
            assigned = _saved_columns(obj, update_changed_only)
            if any(own.capture.is_indexed(mapper, assigned) for own in self.kameleon):
                by_mapper.setdefault(mapper, []).append(obj)
        with ExitStack() as stack:
            for mapper, captured in by_mapper.items():
                keys = partial(_keys_of_objects, captured)
                stack.enter_context(self._capturing(mapper, keys))
                return_defaults = return_defaults or any(None in key for key in keys())
            super().bulk_save_objects(saved, return_defaults, update_changed_only, preserve_order)

    def bulk_insert_mappings(
        self,
        mapper: Any,
        mappings: Iterable[dict[str, Any]],
        return_defaults: bool = False,
        render_nulls: bool = False,
    ) -> None:
        rows = list(mappings)
        keys = partial(_keys_of_rows, mapper, rows)
        with self._capturing(inspect(mapper), keys) as is_indexed:
            if is_indexed and not return_defaults and any(None in key for key in keys()):
                rows[:] = [dict(row) for row in rows]  # the database's defaults are not for the caller's
                return_defaults = True
            super().bulk_insert_mappings(mapper, rows, return_defaults, render_nulls)

    def bulk_update_mappings(self, mapper: Any, mappings: Iterable[dict[str, Any]]) -> None:
        rows, own = list(mappings), inspect(mapper)
        assigned = assigned_columns(own, {name for row in rows for name in row} - set(key_names(own)))
        with self._capturing(own, partial(_keys_of_rows, mapper, rows), assigned):
            super().bulk_update_mappings(mapper, rows)

    @contextmanager
    def _capturing(
        self, mapper: Mapper[Any], keys: Callable[[], Keys], assigned: frozenset[str] | None = None
    ) -> Iterator[bool]:
        """Capture the rows of `keys`, as they are before and after what runs inside; yields whether any is indexed."""
        captures = [own.capture for own in self.kameleon if own.capture.is_indexed(mapper, assigned)]
        with ExitStack() as stack:
            for capture in captures:
                capture.acquire_write_lock(self, mapper)
                if capture.repeats(self, mapper):
                    capture.rows(self, mapper, parts(keys(), IDS_A_STATEMENT))
                stack.enter_context(capture.replaced_rows(self, mapper))
            yield bool(captures)
        for capture in captures:
            capture.rows(self, mapper, parts(keys(), IDS_A_STATEMENT))


def _saved_columns(obj: Any, changed_only: bool) -> frozenset[str] | None:
    """The columns that saving an object sets; None for all."""
    state = inspect(obj)
    if not state.has_identity or not changed_only:
        return None
    return assigned_columns(state.mapper, [name for name, one in state.attrs.items() if one.history.has_changes()])


def _keys_of_objects(objects: Iterable[object]) -> Keys:
    return [primary_key(obj) for obj in objects]


def _keys_of_rows(mapper: Any, rows: Iterable[dict[str, Any]]) -> Keys:
    names = key_names(inspect(mapper))
    return [[row.get(name) for name in names] for row in rows]
