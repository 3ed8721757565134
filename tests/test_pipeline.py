"""Batches that are read and embedded ahead of the one that is stored."""

import json
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

import kameleon
from kameleon import RecordStore, SearchEngine
from kameleon.embeddings import OpenAIProvider

from .loopback import DIMENSIONS, Answer, good, serving

prepared = import_module("kameleon_cli.pipeline").prepared

DEADLINE_S = 30


def threads() -> int:
    return sum(thread.name == "kameleon-ahead" for thread in threading.enumerate())


def test_batches_come_in_their_order_however_long_each_takes() -> None:
    last_is_ready = threading.Event()

    def prepare(number: int) -> int:
        if number == 0:
            assert last_is_ready.wait(DEADLINE_S)
        if number == 2:
            last_is_ready.set()
        return number * number

    assert list(prepared(iter(range(5)), prepare, 3)) == [(n, n * n) for n in range(5)]


def test_a_batch_that_is_ready_does_not_wait_for_the_next_to_be_read() -> None:
    is_stored = threading.Event()

    def batches() -> Iterator[str]:
        yield "first"
        assert is_stored.wait(DEADLINE_S)
        yield "second"

    found = []
    for batch, _ in prepared(batches(), str.upper, 2):
        found.append(batch)
        is_stored.set()
    assert found == ["first", "second"]


def test_no_more_is_read_than_can_be_prepared() -> None:
    read = []

    def batches() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    rest = prepared(batches(), str, 2)
    next(rest)
    rest.close()
    while threads():
        pass
    assert 0 < len(read) <= 4


class Panic(BaseException):
    """Like the exception of a Rust extension that panics: no subclass of Exception."""


@pytest.mark.parametrize("failure", [LookupError, Panic])
@pytest.mark.parametrize("is_reading", [True, False])
def test_an_error_is_raised_in_the_order_of_the_batches(is_reading: bool, failure: type[BaseException]) -> None:
    def batches() -> Iterator[int]:
        yield from (1, 2)
        if is_reading:
            raise failure("input")
        yield 3

    def prepare(number: int) -> int:
        if number == 3:
            raise failure("preparing")
        return number

    found: list[int] = []
    with pytest.raises(failure, match="input" if is_reading else "preparing"):
        found.extend(one for one, _ in prepared(batches(), prepare, 2))
    while threads():
        pass


def test_the_requests_of_several_batches_fly_at_once(command: Callable[..., Any], tmp_path: Path) -> None:
    """The server answers none of six batches' requests before three have arrived; each has a record that is refused."""
    together = threading.Barrier(3, timeout=DEADLINE_S)
    texts = [f"written by hand {number}" for number in range(60)]

    def answer(request: dict[str, Any]) -> Answer:
        together.wait()
        return good(request)

    with serving() as server:
        url = f"sqlite:///{tmp_path / 'test.db'}"
        engine = kameleon.create_engine(url)
        provider = OpenAIProvider("m", dimensions=DIMENSIONS, api_key="none", base_url=server.url)
        SearchEngine(engine, provider).index_record("Note", "first", "first of all")
        server.requests.clear()
        server.always = answer
        records = [{"id": str(n), "text": text} for n, text in enumerate(texts)]
        for place in range(50, -1, -10):
            records.insert(place + 5, {"id": "", "text": "refused"})
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        arguments = ("--json", "-d", url, "data", "insert", "Note", "--batch-size", "11", "--skip-invalid")
        done: CompletedProcess[str] = command(*arguments, environment={"OPENAI_API_KEY": "none"}, stdin=lines.encode())
        assert done.returncode == 0, done.stderr
        assert (json.loads(done.stdout)["embedded"], json.loads(done.stdout)["rejected"]) == (60, 6)
        assert sorted(text for request in server.inputs for text in request) == sorted(texts)
        assert len(server.inputs) == 6
        assert server.most_in_flight >= 3
        server.requests.clear()
        changed = lines.replace("hand", "machine").encode()
        done = command(*arguments, "--on-conflict", "ignore", environment={"OPENAI_API_KEY": "none"}, stdin=changed)
        assert json.loads(done.stdout)["skipped"] == 60
        assert server.requests == []
    assert {hit.id for hit in SearchEngine(engine).search("hand", limit=100)} == {str(n) for n in range(60)}
    engine.dispose()


def test_batches_that_are_embedded_at_once_share_the_requests_of_the_provider(tmp_path: Path) -> None:
    with serving() as server:
        provider = OpenAIProvider("m", dimensions=DIMENSIONS, api_key="none", base_url=server.url)
        records = RecordStore(SearchEngine(kameleon.create_engine(f"sqlite:///{tmp_path / 'test.db'}"), provider))
        first, second = ([{"id": f"{n}{i}", "text": f"{i} of batch {n}"} for i in range(10)] for n in range(2))
        records.insert("Note", first)
        definition = records.definition("Note", first)
        for at_once, workers in [(1, provider.concurrency), (4, provider.concurrency // 4), (100, 1)]:
            ahead = records.embed_ahead(definition, second, callers=at_once)
            assert ahead is not None
            assert ahead.made is not None
            assert ahead.made.concurrent_workers == workers
