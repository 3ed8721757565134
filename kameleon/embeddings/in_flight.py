"""Texts that are being embedded at this moment, so that several threads with one new text send it once. Imports nothing
of kameleon's."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Condition, Lock, get_ident
from typing import Generic, TypeVar

T = TypeVar("T")


class InFlight(Generic[T]):
    """The texts `own` of one caller with their outcomes as they arrive; `others` are those of other callers."""

    def __init__(self) -> None:
        self.own: list[str] = []
        self.others: dict[str, InFlight[T]] = {}
        self.thread: int = get_ident()
        self._outcomes: dict[str, T] = {}
        self._is_over = False
        self._changed = Condition()

    def resolve(self, outcomes: Mapping[str, T]) -> None:
        with self._changed:
            self._outcomes.update(outcomes)
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def outcome(self, text: str) -> T | None:
        """Wait for a text's outcome; None where its embedding ended without one."""
        with self._changed:
            self._changed.wait_for(lambda: text in self._outcomes or self._is_over)
            return self._outcomes.get(text)


class InFlightTexts(Generic[T]):
    def __init__(self) -> None:
        self._lock = Lock()
        self._in_flight: dict[str, InFlight[T]] = {}

    @contextmanager
    def begun(self, texts: Sequence[str]) -> Iterator[InFlight[T]]:
        """Those of the texts that no other thread is embedding, as `own`. Their embedding ends with the block, its
        outcomes stored by then. Wait for the others' texts after the block, so that no two callers wait for each
        other."""
        begun: InFlight[T] = InFlight()
        with self._lock:
            in_flight = {text: self._in_flight[text] for text in texts if text in self._in_flight}
            begun.others = {text: other for text, other in in_flight.items() if other.thread != begun.thread}
            begun.own = [text for text in texts if text not in begun.others]
            new = [text for text in begun.own if text not in in_flight]
            self._in_flight.update(dict.fromkeys(new, begun))
        try:
            yield begun
        finally:
            with self._lock:
                for text in new:
                    del self._in_flight[text]
            begun.end()
