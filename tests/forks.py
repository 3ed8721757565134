"""Work in forked processes, as a server's workers are, and a lock that another thread holds while they fork."""

import faulthandler
import os
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, TypeVar

T = TypeVar("T")

HANGS_AFTER_S = 300


def forked(
    work: Callable[[int], T], children: int = 1, meanwhile: AbstractContextManager[None] | None = None
) -> list[T]:
    """What `work` returns of each child's number, each in a process of its own, forked inside `meanwhile`. Raises
    AssertionError with the traceback of a child that fails or hangs."""
    with meanwhile or nullcontext():
        begun = [_begin(work, child) for child in range(children)]
    answers = [_answer(*child) for child in begun]
    for pid, _ in begun:
        os.waitpid(pid, 0)
    return [_loaded(answer) for answer in answers]


def _begin(work: Callable[[int], Any], child: int) -> tuple[int, int]:
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns about forks beside threads
        pid = os.fork()
    if pid == 0:
        os.close(ours)
        _work(work, child, theirs)
    os.close(theirs)
    return pid, ours


def _work(work: Callable[[int], Any], child: int, pipe: int) -> None:
    faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True, file=pipe)
    with suppress(BaseException), os.fdopen(pipe, "wb") as answer:
        try:
            found = pickle.dumps(work(child))
        except BaseException as error:  # noqa: BLE001 - raised again in the parent
            found = pickle.dumps(AssertionError(f"child {child}: {type(error).__name__}: {error}"))
        answer.write(found)
    os._exit(0)


def _answer(_pid: int, pipe: int) -> bytes:
    with os.fdopen(pipe, "rb") as answer:
        return answer.read()


def _loaded(answer: bytes) -> Any:
    if answer.startswith((b"Timeout", b"Fatal")) or not answer:
        raise AssertionError(f"a child hung or died:\n{answer.decode()}")
    found = pickle.loads(answer)  # noqa: S301 - of our own child
    if isinstance(found, AssertionError):
        raise found
    return found


@contextmanager
def holding(lock: Any) -> Iterator[None]:
    """Another thread holds the lock while the block runs."""
    held, free = threading.Event(), threading.Event()

    def run() -> None:
        with lock:
            held.set()
            free.wait()

    thread = threading.Thread(target=run)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        free.set()
        thread.join()
