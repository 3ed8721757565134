"""Operations, which observers trace and measure. Imports nothing of kameleon's but this package.

Without an observer, `operation` returns one shared object whose methods do nothing: 0.4 µs for a block."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Protocol, Self

log: logging.Logger = logging.getLogger("kameleon.telemetry")


class Operation:
    """One that nobody observes. `name` is that of its kind, by which `measures` has what is measured of it."""

    is_observed = False

    def begin(self, name: str, title: str = "", attributes: Mapping[str, Any] | None = None) -> Self:
        """Begin what `operation` was called for without a name. The time counts from that call."""
        return self

    def set(self, attributes: Mapping[str, Any], title: str = "") -> None:
        """Add attributes, and give it another title."""

    def count(self, measure: str, figures: Mapping[str, int]) -> None:
        """Add to a counter, by outcome."""

    def time(self, measure: str, seconds: Mapping[str, float]) -> None:
        """Add the durations of its steps."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it, with the error that left the block."""


class Observer(Protocol):
    """Called on the thread of the operation, in the order of nesting. What it raises is logged and goes no further."""

    def begin(self, operation: "Observed") -> Any:
        """What `end` is given."""

    def end(self, operation: "Observed", begun: Any) -> None: ...


UNOBSERVED = Operation()
_current: ContextVar[Operation] = ContextVar("kameleon_operation", default=UNOBSERVED)

_observers: tuple[Observer, ...] = ()


class Observed(Operation):
    """`title` is what a trace shows; `seconds` and `error`, the name of the exception's type, are those of its end."""

    is_observed = True

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.name = self.title = ""
        self.attributes: dict[str, Any] = {}
        self.figures: dict[str, dict[str, int]] = {}
        self.steps: dict[str, dict[str, float]] = {}
        self.started_ns = time.time_ns()
        self._clock = time.perf_counter()
        self.seconds = 0.0
        self.error: str | None = None
        self._observers = observers
        self._begun: list[tuple[Observer, Any]] = []
        self._outer: Token[Operation] | None = None

    def begin(self, name: str, title: str = "", attributes: Mapping[str, Any] | None = None) -> Self:
        self.name, self.title = name, title or name
        self.attributes.update(attributes or {})
        self._outer = _current.set(self)
        for observer in self._observers:
            try:
                self._begun.append((observer, observer.begin(self)))
            except Exception as error:  # noqa: BLE001 - whatever an observer raises, the operation goes on
                log.warning("an observer failed at the beginning of %s: %s", name, type(error).__name__)
        return self

    def set(self, attributes: Mapping[str, Any], title: str = "") -> None:
        self.attributes.update(attributes)
        self.title = title or self.title

    def count(self, measure: str, figures: Mapping[str, int]) -> None:
        self.figures[measure] = {outcome: figure for outcome, figure in figures.items() if figure}

    def time(self, measure: str, seconds: Mapping[str, float]) -> None:
        self.steps[measure] = dict(seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._clock
        self.error = kind.__name__ if kind else None
        if self._outer is not None:
            _current.reset(self._outer)
        while self._begun:
            observer, begun = self._begun.pop()
            try:
                observer.end(self, begun)
            except Exception as failure:  # noqa: BLE001 - whatever an observer raises, the operation is done
                log.warning("an observer failed at the end of %s: %s", self.name, type(failure).__name__)


def operation(name: str = "", title: str = "", attributes: Mapping[str, Any] | None = None) -> Operation:
    """An operation to be entered; without a name it is observed from its `begin` on, if that is called."""
    if not _observers:
        return UNOBSERVED
    made = Observed(_observers)
    return made.begin(name, title, attributes) if name else made


def current() -> Operation:
    """The operation that this code runs in, the innermost one: what a provider learns of its request it may `set`."""
    return _current.get()


def observe(observer: Observer) -> None:
    """Call an observer for the operations of this process that begin from now on, once however often it is given."""
    global _observers
    if observer not in _observers:
        _observers = (*_observers, observer)


def unobserve(observer: Observer) -> None:
    global _observers
    _observers = tuple(each for each in _observers if each is not observer)
