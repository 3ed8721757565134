"""Reads and prepares batches on threads while an earlier one is stored. Imports nothing of kameleon's."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

B = TypeVar("B")
R = TypeVar("R")


def prepared(batches: Iterator[B], prepare: Callable[[B], R], count: int) -> Iterator[tuple[B, R]]:
    """Each batch with what `prepare` made of it, in their order, `count` of them in preparation at a time.

    A batch that is ready does not wait for the next to be read. What reading or preparing raises is raised here, at the
    place of its batch. The threads are daemons: one that waits for input does not keep the process from ending.
    """
    ready: SimpleQueue[tuple[B, Future[R]] | None] = SimpleQueue()
    slots, stopped = Semaphore(count), Event()
    reading = Future[None]()

    def read() -> None:
        try:
            for batch in batches:
                slots.acquire()
                if stopped.is_set():
                    break
                made = Future[R]()
                _start(made, prepare, batch)
                ready.put((batch, made))
        finally:
            ready.put(None)
            getattr(batches, "close", bool)()

    _start(reading, read)
    try:
        while (found := ready.get()) is not None:
            made = found[1].result()
            slots.release()
            yield found[0], made
        reading.result()
    finally:
        stopped.set()
        slots.release()


def _start(future: Future[R], call: Callable[..., R], *args: object) -> None:
    def settle() -> None:
        try:
            future.set_result(call(*args))
        except BaseException as error:  # noqa: BLE001 - raised by `result` in the thread that stores, which waits for it
            future.set_exception(error)

    Thread(target=settle, name="kameleon-ahead", daemon=True).start()
