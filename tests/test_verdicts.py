"""The three kinds of failure: one text's, everybody's, or an outage, decided by what is accepted beside it."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from threading import Barrier, Lock
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kameleon import SearchEngine, Worker
from kameleon.embeddings import CallableProvider, EmbeddingProvider, EmbeddingReport, EmbeddingService
from kameleon.embeddings.requesting import PROBE
from kameleon.errors import ProviderError, ProviderRefused, ProviderUnavailable, TextRefused
from kameleon.testing import HashProvider

from .conftest import Make, ids

DIMENSIONS = 4
VECTOR = [1.0, 0.0, 0.0, 0.0]

FAILURES: dict[str, Callable[[], Exception]] = {
    "refused": lambda: TextRefused("HTTP 400: no"),
    "unexplained": lambda: ValueError("no"),
    "server_error": lambda: ProviderUnavailable("HTTP 500: NaN", status=500),
    "forbidden": lambda: ProviderRefused("HTTP 403: blocked", may_be_text=True),
    "limited": lambda: ProviderUnavailable("HTTP 429: later", status=429),
    "slow": lambda: ProviderUnavailable("timed out", timed_out=True),
    "cut": lambda: ConnectionError("reset"),
}
REASONS = {"refused": "embed_failed", "unexplained": "embed_failed", "server_error": "server_error"}


class Server(EmbeddingProvider):
    """Fails a request that has one of the `bad` texts, by their kind; gives no vector, or a wrong one, for some kinds.
    `fails(texts)` decides before."""

    model_name = "server"
    dimensions = DIMENSIONS
    is_costly = True

    def __init__(
        self,
        bad: dict[str, str] | None = None,
        *,
        concurrency: int = 1,
        batch_size: int = 1000,
        fails: Callable[[Sequence[str]], Exception | None] = lambda _texts: None,
    ) -> None:
        self.bad = bad or {}
        self.concurrency, self.batch_size = concurrency, batch_size
        self.fails = fails
        self.calls: list[list[str]] = []
        self.lock = Lock()

    def embed_batch(self, texts: Sequence[str]) -> list[Any]:
        with self.lock:
            self.calls.append(list(texts))
        if (error := self.fails(texts)) is not None:
            raise error
        for text in texts:
            if (kind := self.bad.get(text, "")) in FAILURES:
                raise FAILURES[kind]()
        missing = any(self.bad.get(text) == "missing" for text in texts)
        made = [{"wrong": [1.0], "zero": [0.0] * DIMENSIONS}.get(self.bad.get(text, ""), VECTOR) for text in texts]
        return made[1:] if missing else made


def embedded(provider: EmbeddingProvider, texts: Sequence[str], **options: Any) -> EmbeddingReport:
    service = EmbeddingService(provider, sleep=lambda _seconds: None, **options)
    return service.embed_batch(texts, on_error="collect")


def verdicts(report: EmbeddingReport) -> dict[str, str]:
    """By text: empty for a vector, its reason for a refusal, the error's name for what was left."""
    return {
        text: "" if error is None else error.reason if isinstance(error, TextRefused) else type(error).__name__
        for text, error in zip(report.texts, report.errors, strict=True)
    }


@given(
    st.dictionaries(st.integers(0, 50), st.sampled_from([*FAILURES, "missing", "wrong", "zero"]), max_size=6),
    st.lists(st.tuples(st.integers(1, 60), st.sampled_from([1, 3])), min_size=2, max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_a_verdict_does_not_depend_on_its_slice(bad: dict[int, str], ways: list[tuple[int, int]]) -> None:
    texts = [f"text {n}" for n in range(51)]
    kinds = {f"text {n}": kind for n, kind in bad.items()}
    found = [
        verdicts(embedded(Server(kinds, batch_size=size, concurrency=concurrency), texts)) for size, concurrency in ways
    ]
    assert all(other == found[0] for other in found)
    assert {text for text, reason in found[0].items() if reason} == set(kinds)
    for text, kind in kinds.items():
        reasons = {**REASONS, "missing": "embed_failed", "wrong": "wrong_dimension", "zero": "not_finite"}
        assert found[0][text] == reasons.get(kind, "unavailable")


@pytest.mark.parametrize("kind", [kind for kind in FAILURES if kind != "slow"])
@pytest.mark.parametrize("concurrency", [1, 10])
@pytest.mark.parametrize("count", [1, 2, 51, 1_001])
def test_what_takes_no_text_is_left_within_three_requests(kind: str, concurrency: int, count: int) -> None:
    provider = Server(fails=lambda _texts: FAILURES[kind](), concurrency=concurrency, batch_size=100)
    report = embedded(provider, [f"text {n}" for n in range(count)])
    assert len(provider.calls) <= 3
    assert [PROBE] in provider.calls
    assert len(report.errors) == count
    assert all(isinstance(error, ProviderRefused | ProviderUnavailable) for error in report.errors)


@pytest.mark.parametrize("kind", ["wrong", "zero", "missing"])
def test_wrong_vectors_for_every_text_are_the_providers(kind: str) -> None:
    texts = [f"text {n}" for n in range(51)]
    provider = Server(dict.fromkeys([*texts, PROBE], kind), batch_size=10)
    report = embedded(provider, texts)
    assert isinstance(report.outage, ProviderRefused)
    assert set(verdicts(report).values()) == {"ProviderRefused"}
    assert len(provider.calls) <= 3


def test_a_provider_that_stops_taking_texts_buries_none() -> None:
    taken = Counter[str]()

    def revoked(texts: Sequence[str]) -> Exception | None:
        taken["requests"] += 1
        return TextRefused("HTTP 400: key not valid") if taken["requests"] > 5 else None

    report = embedded(Server(fails=revoked, batch_size=10), [f"text {n}" for n in range(1_001)])
    assert Counter(verdicts(report).values()) == {"": 50, "ProviderRefused": 951}
    assert taken["requests"] <= 5 + 6


def test_only_bad_texts_are_refused_where_the_short_text_is_taken() -> None:
    texts = [f"text {n}" for n in range(51)]
    report = embedded(Server(dict.fromkeys(texts, "refused"), batch_size=8), texts)
    assert set(verdicts(report).values()) == {"embed_failed"}


# a text that is too long


def too_long(most: int, error: Callable[[], Exception]) -> Callable[[Sequence[str]], Exception | None]:
    return lambda texts: error() if any(len(text) > most for text in texts) else None


@pytest.mark.parametrize("kind", ["refused", "unexplained", "server_error"])
@pytest.mark.parametrize("most", [500, 1_000, 5_999])
def test_a_text_that_is_too_long_is_embedded_in_pieces(most: int, kind: str) -> None:
    long = "0123456789 " * 1_000
    report = embedded(Server(fails=too_long(most, FAILURES[kind])), ["short", long, "last"])
    assert verdicts(report) == {"short": "", long: "too_long", "last": ""}
    error = report.errors[1]
    assert isinstance(error, TextRefused)
    assert "".join(long[start:end] for start, end, _ in error.pieces) == long
    assert all(0 < end - start <= most for start, end, _ in error.pieces)


def test_a_long_text_that_is_refused_for_what_is_in_it_is_no_long_text() -> None:
    long = "word " * 1_000 + "poison" + " word" * 1_000
    provider = Server(fails=lambda texts: ValueError("no") if any("poison" in text for text in texts) else None)
    report = embedded(provider, ["short", long])
    assert verdicts(report) == {"short": "", long: "embed_failed"}
    assert isinstance(report.errors[1], TextRefused)
    assert report.errors[1].pieces == ()


def test_a_record_that_is_too_long_is_found_by_its_last_piece(make: Make) -> None:
    class Small(HashProvider):
        def embed_batch(self, texts: Sequence[str]) -> Any:
            if any(len(text) > 600 for text in texts):
                raise ValueError("input is too large")
            return super().embed_batch(texts)

    search = make(Small(256))
    report = search.index_records_batch([("Log", "1", "alpha " * 150 + "omega " * 150), ("Log", "2", "beta")])
    assert (report.embedded, report.failed, report.pending) == (2, 0, 0)
    (hit, *_) = search.search("omega", mode="vector")
    assert hit.id == "1"
    assert "omega" in hit.matched_text


# texts that the server fails on


class Failing(HashProvider):
    """Fails with an error of its own on each text that has "poison" in it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.attempts = 2

    def embed_batch(self, texts: Sequence[str]) -> Any:
        self.calls.append(list(texts))
        if any("poison" in text for text in texts):
            raise FAILURES[self.kind]()
        return [self._vector(text) for text in texts]


def filled(make: Make, provider: EmbeddingProvider, count: int) -> SearchEngine:
    make().index_records_batch([("Note", f"{n:04}", "poison" if n == 3 else f"note {n}") for n in range(count)])
    return make(provider)


def counted(search: SearchEngine) -> tuple[int, int]:
    (status,) = search.get_status()
    return status.pending, status.failed


@pytest.mark.parametrize("count", [50, 51, 201])
def test_a_text_that_the_server_fails_on_is_a_tombstone_after_the_third_sync(make: Make, count: int) -> None:
    search = filled(make, Failing("server_error"), count)
    reports = [search.sync() for _ in range(3)]
    assert [(r.embedded, r.failed, r.pending, r.outage) for r in reports] == [
        (count - 1, 0, 1, None),
        (0, 0, 1, None),
        (0, 1, 0, None),
    ]
    assert counted(search) == (0, 1)
    (failure,) = search.failures()
    assert (failure.id, failure.reason, failure.attempts) == ("0003", "server_error", 3)
    provider = search.provider
    assert isinstance(provider, Failing)
    provider.calls.clear()
    search.sync()
    assert provider.calls == []


def test_a_failing_text_comes_last_and_an_edit_begins_anew(make: Make) -> None:
    provider = Failing("server_error")
    search = filled(make, provider, 51)
    search.sync()
    search.index_records_batch([("Note", "0003", "poison again")])
    provider.calls.clear()
    make().index_records_batch([("Note", "9999", "a new one")])
    assert search.sync().embedded == 1
    assert provider.calls[0] != ["poison again"]
    assert counted(search) == (1, 0)
    provider.kind = "refused"
    search.sync()
    assert counted(search) == (0, 1)


@pytest.mark.parametrize("kind", ["forbidden", "limited", "slow", "cut"])
def test_what_is_no_refusal_of_a_text_never_buries_it(make: Make, kind: str) -> None:
    search = filled(make, Failing(kind), 51)
    for _ in range(4):
        assert search.sync().outage is None
    assert counted(search) == (1, 0)


@pytest.mark.parametrize("kind", ["server_error", "slow"])
def test_a_reindex_ends_although_the_server_fails_on_a_text(make: Make, kind: str) -> None:
    search = filled(make, Failing(kind), 51)
    search.sync()
    report = search.reindex(force=True)
    assert (report.switched, report.embedded, report.stopped) == (True, 50, "")
    assert counted(search) == (1, 0)
    filled_again = search.reindex()
    assert (filled_again.stopped, filled_again.embedded) == ("", 0)
    assert len(ids(search.search("note 7"))) > 0


def test_a_write_leaves_a_failing_text_to_a_sync(make: Make) -> None:
    provider = Failing("server_error")
    search = make(provider, on_provider_error="raise")
    for _ in range(4):
        report = search.index_records_batch([("Note", "1", "poison"), ("Note", "2", "fine")])
        assert report.pending == 1
    assert counted(search) == (1, 0)


# one text in many threads


def test_one_new_text_of_many_threads_is_embedded_once() -> None:
    begun, release = threading.Event(), threading.Event()
    paid: list[str] = []

    def embed(texts: Sequence[str]) -> list[list[float]]:
        paid.extend(texts)
        begun.set()
        assert release.wait(30)
        return [VECTOR for _ in texts]

    provider = CallableProvider(embed, dimensions=DIMENSIONS, model_name="paid")
    service = EmbeddingService(provider)
    reports: list[EmbeddingReport] = []
    threads = [
        threading.Thread(target=lambda n=n: reports.append(service.embed_batch(["shared", f"own {n}"])))
        for n in range(8)
    ]
    threads[0].start()
    assert begun.wait(30)
    for thread in threads[1:]:
        thread.start()
    release.set()
    for thread in threads:
        thread.join()
    assert len(reports) == 8
    assert paid.count("shared") == 1
    assert all(report.errors == [None, None] for report in reports)


def test_one_question_of_many_threads_is_embedded_once() -> None:
    together = Barrier(8)
    texts_sent: list[str] = []
    release = threading.Event()

    def embed(texts: Sequence[str]) -> list[list[float]]:
        texts_sent.extend(texts)
        assert release.wait(30)
        return [VECTOR for _ in texts]

    service = EmbeddingService(CallableProvider(embed, dimensions=DIMENSIONS, model_name="paid"))
    answers: list[Any] = []

    def search_once() -> None:
        together.wait(30)
        answers.append(service.embed_query("everybody's"))

    threads = [threading.Thread(target=search_once) for _ in range(8)]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(texts_sent) == 1


def test_an_outage_is_raised_to_every_caller_waiting_for_the_text() -> None:
    provider = Server(fails=lambda _texts: ProviderRefused("no key"))
    service = EmbeddingService(provider)
    assert isinstance(service.embed_batch(["a"], on_error="collect").outage, ProviderRefused)
    provider.fails = lambda _texts: None
    assert service.embed_batch(["a"]).errors == [None]


# a server that is slow


class Slow(Server):
    """Times out on more than `most` texts at once, or beside more than `beside` other requests."""

    def __init__(self, most: int, **options: Any) -> None:
        super().__init__(
            fails=lambda texts: ProviderUnavailable("timed out", timed_out=True) if len(texts) > most else None,
            **options,
        )


@pytest.mark.parametrize("most", [1, 5, 60])
@pytest.mark.parametrize("concurrency", [1, 10])
def test_a_slow_server_gets_smaller_slices_which_are_remembered(most: int, concurrency: int) -> None:
    provider = Slow(most, batch_size=100, concurrency=concurrency)
    service = EmbeddingService(provider, sleep=lambda _seconds: None)
    texts = [f"text {n}" for n in range(1_001)]
    assert service.embed_batch(texts).errors == [None] * 1_001
    refused = sum(len(call) > most for call in provider.calls)
    assert refused < 40
    assert service.limits.size <= max(most, 1) or refused
    paid = Counter(text for call in provider.calls if len(call) <= most for text in call)
    assert {paid[text] for text in texts} == {1}


def test_a_server_that_hangs_is_left_within_three_requests() -> None:
    provider = Slow(0, batch_size=100, concurrency=10)
    report = embedded(provider, [f"text {n}" for n in range(1_001)])
    assert isinstance(report.outage, ProviderUnavailable)
    assert len(provider.calls) <= 3


# a provider that is broken


class Broken(HashProvider):
    """Raises in one method, as long as it is broken."""

    def __init__(self, place: str) -> None:
        self.is_broken = False
        super().__init__()
        self.place, self.is_broken = place, True

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, "__dict__")
        found = super().__getattribute__(name)
        if not own.get("is_broken") or name != own.get("place"):
            return found
        if callable(found):
            return partial(broken, name)
        return broken(name)


PLACES = (
    "fingerprint",
    "dimensions",
    "load",
    "max_tokens",
    "count_tokens",
    "count_all",
    "options",
    "embed_batch",
    "window",
)


def broken(name: str, *_arguments: object) -> None:
    raise RuntimeError(f"{name} is broken")


class Counting(Broken):
    max_tokens = 100
    max_batch_tokens = 1_000


@pytest.mark.parametrize("place", PLACES)
def test_a_broken_provider_leaves_keywords_and_pending(make: Make, place: str) -> None:
    provider = Counting(place)
    search = make(provider)
    search.index_records_batch([("Note", str(n), f"note {n} " * 60) for n in range(51)])
    if place == "load":
        assert counted(search) == (0, 0)
        return
    assert counted(search) == (51, 0)
    (status,) = search.get_status()
    assert place in status.note
    assert len(search.search("note", limit=51)) == 51
    report = search.sync()
    assert (report.pending, report.embedded) == (51, 0)
    assert place in (report.outage or "")
    if place in ("fingerprint", "dimensions", "options"):
        with pytest.raises(ProviderUnavailable, match=place):
            search.reindex()
    provider.is_broken = False
    assert search.sync().embedded == 51
    assert counted(search) == (0, 0)


def test_a_worker_leaves_what_a_broken_provider_has_to_embed(make: Make) -> None:
    provider = Counting("embed_batch")
    search = make(provider)
    assert search.index_records_batch([("Note", "1", "one"), ("Note", "2", "two")]).pending == 2
    provider.place = "fingerprint"
    again = make(provider)
    report = Worker(again).run()
    assert (report.embedded, report.pending) == (0, 2)
    assert "fingerprint" in (report.outage or "")
    provider.is_broken = False
    assert again.sync().embedded == 2


def test_a_provider_without_a_vocabulary_is_searched(make: Make) -> None:
    provider = Counting("known_share")
    search = make(provider)
    search.index_records_batch([("Note", "1", "one note")])
    assert ids(search.search("one")) == ["1"]


@pytest.mark.parametrize("place", [place for place in PLACES if place != "load"])
def test_a_broken_provider_stores_nothing_where_it_is_to_raise(make: Make, place: str) -> None:
    search = make(Counting(place), on_provider_error="raise")
    with pytest.raises(ProviderError, match=f"{place} is broken"):
        search.index_records_batch([("Note", "1", "note " * 60)])
    assert search.get_status() == []
