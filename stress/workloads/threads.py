"""A thread that works while a block runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def busy(work: Callable[[int], Any]) -> Iterator[None]:
    """A thread that calls `work` again and again, with the number of the call, while the block runs."""
    stop, begun = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        call = 0
        try:
            while not stop.is_set():
                work(call)
                call += 1
                begun.set()
        except BaseException as error:  # noqa: BLE001 - raised again at the end
            errors.append(error)
            begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]
