"""Texts that are being embedded at this moment, so that several threads with one new text send it once. Imports nothing
of kameleon's."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Condition, Lock, get_ident
from typing import Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """The texts `mine` of one caller with their outcomes as they arrive; `others` are those of other callers."""

    def __init__(self) -> None:
        self.mine: list[str] = []
        self.others: dict[str, Flight[T]] = {}
        self.thread: int = get_ident()
        self._outcomes: dict[str, T] = {}
        self._is_over = False
        self._changed = Condition()

    def land(self, outcomes: Mapping[str, T]) -> None:
        with self._changed:
            self._outcomes.update(outcomes)
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def outcome(self, text: str) -> T | None:
        """Wait for a text's outcome; None where the flight ended without one."""
        with self._changed:
            self._changed.wait_for(lambda: text in self._outcomes or self._is_over)
            return self._outcomes.get(text)


class Flights(Generic[T]):
    def __init__(self) -> None:
        self._lock = Lock()
        self._going: dict[str, Flight[T]] = {}

    @contextmanager
    def begun(self, texts: Sequence[str]) -> Iterator[Flight[T]]:
        """A flight of those texts that are in no other thread's. It ends with the block, its outcomes stored by then.
        Wait for the others' texts after the block, so that no two callers wait for each other."""
        flight: Flight[T] = Flight()
        with self._lock:
            going = {text: self._going[text] for text in texts if text in self._going}
            flight.others = {text: other for text, other in going.items() if other.thread != flight.thread}
            flight.mine = [text for text in texts if text not in flight.others]
            new = [text for text in flight.mine if text not in going]
            self._going.update(dict.fromkeys(new, flight))
        try:
            yield flight
        finally:
            with self._lock:
                for text in new:
                    del self._going[text]
            flight.end()
