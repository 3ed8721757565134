"""Work that is begun ahead of its turn: batches are read and prepared on threads while an earlier one is stored."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

B = TypeVar("B")
R = TypeVar("R")


def prepared(batches: Iterator[B], prepare: Callable[[B], R], count: int) -> Iterator[tuple[B, R]]:
    """Each batch with what `prepare` made of it, in their order, `count` of them in preparation at a time.

    A batch that is ready does not wait for the next to be read. What reading or preparing raises is raised here, in its
    turn. The threads end when the iteration does; one that waits for input does not keep the process from ending.
    """
    room, stopped = Semaphore(count), Event()
    ready: SimpleQueue[tuple[B, Future[R]] | BaseException | None] = SimpleQueue()
    waiting: SimpleQueue[tuple[B, Future[R]] | None] = SimpleQueue()

    def read() -> None:
        try:
            for batch in batches:
                found = batch, Future[R]()
                waiting.put(found)
                ready.put(found)
                room.acquire()
                if stopped.is_set():
                    break
            ready.put(None)
        except BaseException as error:  # noqa: BLE001 - the consumer gets it, and would else wait for ever
            ready.put(error)
        finally:
            for _ in range(count):
                waiting.put(None)
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    def work() -> None:
        while (found := waiting.get()) is not None and not stopped.is_set():
            batch, future = found
            try:
                future.set_result(prepare(batch))
            except BaseException as error:  # noqa: BLE001 - the consumer gets it, and would else wait for ever
                future.set_exception(error)

    for target in (read, *[work] * count):
        Thread(target=target, name="kameleon-ahead", daemon=True).start()
    try:
        while (found := ready.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            batch, future = found
            made = future.result()
            room.release()
            yield batch, made
    finally:
        stopped.set()
        room.release()
