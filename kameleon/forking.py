"""Renews what a forked process must not share with its parent, nor find locked for ever. Imports nothing of kameleon's.

A fork copies the memory and the thread that forks. Locks that other threads held are held for ever in the child, where
no thread releases them; sockets and the threads of a model's session belong to the parent. So

- attributes declared `per_process` are made again in the child,
- `lazy` replaces `functools.cached_property`, which in Python 3.11 has a lock for all objects of a class,
- a fork waits for other threads inside `fork_waits`, and for their connections to a watched engine. SQLite counts its
  locks on a file once a process, so a child forked inside another thread's transaction would count these as its own
  (https://www.sqlite.org/howtocorrupt.html, 2.6).
"""

import concurrent.futures.thread  # noqa: F401 - has fork handlers, as logging: those registered later run earlier
import logging
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from sqlalchemy import Engine

log: logging.Logger = logging.getLogger("kameleon")

T = TypeVar("T")

FORK_WAITS_S = 10.0
"""Bounds how long a fork waits for other threads: longer than a batch is embedded and written. It goes on then, and the
next forks do not wait for the same work again. Chosen, not measured."""


class lazy(Generic[T]):  # noqa: N801 - a decorator
    """An attribute that is made at its first use. Threads may make it at the same time, and get the same one."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, holder: None, owner: type) -> "lazy[T]": ...
    @overload
    def __get__(self, holder: object, owner: type | None = None) -> T: ...
    def __get__(self, holder: object, owner: type | None = None) -> "lazy[T] | T":
        if holder is None:
            return self
        self._note(holder)
        made: T = holder.__dict__.setdefault(self.name, self._make(holder))
        return made

    def _note(self, holder: object) -> None:
        """Called for an object whose attribute is made."""


class per_process(lazy[T]):  # noqa: N801 - a decorator
    """A `lazy` attribute that is made once a process: a forked child makes its own, and does not even destroy the
    parent's."""

    def _note(self, holder: object) -> None:
        if id(holder) not in _holders:
            key = id(holder)
            _holders[key] = weakref.ref(holder, lambda _: _holders.pop(key, None))


_holders: dict[int, "weakref.ref[object]"] = {}


def state_of(holder: object) -> dict[str, Any]:
    """An object's attributes without those that are made at first use: what its pickle and its copies are made of."""
    cls = type(holder)
    return {name: value for name, value in vars(holder).items() if not isinstance(getattr(cls, name, None), lazy)}


class _Threads:
    """The work that a fork waits for: the threads that do it, by its key."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.busy: dict[int, int] = {}
        self.given_up: set[int] = set()
        self.is_forking = False

    def enter(self, key: int) -> None:
        """Wait for a fork, unless that waits for this thread."""
        thread = get_ident()
        with self.changed:
            if self.is_forking and thread not in self.busy.values():
                self.changed.wait_for(lambda: not self.is_forking, FORK_WAITS_S)
            self.busy[key] = thread

    def leave(self, key: int) -> None:
        with self.changed:
            self.busy.pop(key, None)
            self.given_up.discard(key)
            if self.is_forking:
                self.changed.notify_all()

    def others(self) -> set[int]:
        alive = sys._current_frames().keys() - {get_ident()}
        return {key for key, other in self.busy.items() if other in alive and key not in self.given_up}

    def before_fork(self) -> None:
        """Wait, and leave the condition's lock held, so that nothing changes until the fork is done."""
        self.changed.acquire()
        self.is_forking = True
        if not self.changed.wait_for(lambda: not self.others(), FORK_WAITS_S):
            log.warning("fork:threads_busy count=%d waited_s=%s", len(self.others()), FORK_WAITS_S)
            self.given_up |= self.others()

    def in_parent(self) -> None:
        self.is_forking = False
        self.changed.notify_all()
        self.changed.release()

    def in_child(self) -> None:
        thread = get_ident()
        self.changed = Condition()
        self.busy = {key: other for key, other in self.busy.items() if other == thread}
        self.given_up.clear()
        self.is_forking = False


_threads = _Threads()


@contextmanager
def fork_waits() -> Iterator[None]:
    """Do work that a fork waits for, such as an import: a child cannot end one that another thread began."""
    work = object()
    _threads.enter(id(work))
    try:
        yield
    finally:
        _threads.leave(id(work))


def watch(engine: "Engine") -> None:
    """Let a fork wait until other threads have given their connections back."""
    from sqlalchemy import event  # a provider alone does not load SQLAlchemy

    if not event.contains(engine, "checkout", _checked_out):
        event.listen(engine, "checkout", _checked_out)
        event.listen(engine, "checkin", _checked_in)
        event.listen(engine, "detach", _checked_in)


def _checked_out(_driver: Any, record: Any, _proxy: Any) -> None:
    _threads.enter(id(record))


def _checked_in(_driver: Any, record: Any) -> None:
    _threads.leave(id(record))


def _in_child() -> None:
    _threads.in_child()
    for reference in list(_holders.values()):
        if (holder := reference()) is None:
            continue
        cls = type(holder)
        for name in [name for name in vars(holder) if isinstance(getattr(cls, name, None), per_process)]:
            _abandon(vars(holder).pop(name))


def _abandon(value: object) -> None:
    """Keep a value from being destroyed, even as the process ends: a model's session would wait for threads that the
    child does not have."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_threads.before_fork, after_in_parent=_threads.in_parent, after_in_child=_in_child)
