"""Long records: split, embedded and found passage by passage, on each store."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import sessionmaker

from kameleon import RecordStore, SearchEngine
from kameleon.embeddings import CallableProvider, FastEmbedProvider, OpenAIProvider, StaticProvider, get_provider
from kameleon.embeddings import passages as splitting
from kameleon.embeddings.passages import Place, split, split_long
from kameleon.embeddings.provider import Vector
from kameleon.errors import InvalidInput, ProviderUnavailable, TextRefused
from kameleon.testing import HashProvider
from stress.workloads.models import Base, Note

from .conftest import Make, ids, with_server
from .test_contract import rows

PAGES = "One two three four five six seven. Red fox in the deep snow today. Grey heron stands among tall river reeds."
SHORT = "a brown bear"


class Words(HashProvider):
    """A provider that embeds the first eight words of a text."""

    max_tokens = 8

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        return [found.span() for found in re.finditer(r"\S+", text)]

    def _vector(self, text: str) -> Vector:
        return super()._vector(" ".join(text.split()[:8]))


@pytest.fixture(params=with_server("sqlite", "sqlite-vec", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def provider() -> Words:
    return Words()


@pytest.fixture
def filled(search: SearchEngine) -> SearchEngine:
    search.index_records_batch([("Page", "1", PAGES), ("Page", "2", SHORT)])
    return search


# splitting

STATIC = StaticProvider()


@given(st.text(alphabet="ab.é漢🦊\u0301\u200d \n", max_size=400), st.integers(1, 24))
@settings(max_examples=150, deadline=None)
def test_passages_cover_a_text_in_order_and_overlap_by_less_than_the_window(text: str, window: int) -> None:
    provider = HashProvider()
    places = split(text, provider, window)
    spans = provider.token_spans(text)
    assert (places[0].start, places[-1].end) == (0, len(text))
    for before, after in pairwise(places):
        assert before.start < after.start <= before.end <= after.end
    for start, end in places:
        assert sum(start <= token < end for token, _ in spans) <= window


@given(st.lists(st.sampled_from(["word", "sentence.", "a\n", "漢字", "unbelievable", "don't", "x" * 30]), max_size=300))
@settings(max_examples=30, deadline=None)
def test_the_bundled_model_reads_all_of_each_passage(words: list[str]) -> None:
    text = " ".join(words)
    for start, end in split(text, STATIC, 64):
        assert STATIC.count_tokens(text[start:end]) <= 64


def test_a_passage_ends_with_a_line_or_a_sentence_where_one_ends_near() -> None:
    lines = split("a b c d e f\ng h. i j k l m n", Words(), 8)
    sentences = split("a b c d e f. g h i j k l m n", Words(), 8)
    assert [(lines[0].end, sentences[0].end), lines[1].start] == [(12, 13), 10]


def test_what_has_no_white_space_is_split_and_letters_keep_their_marks() -> None:
    kanji, marked = "漢" * 100, "e\u0301" * 100
    assert split(kanji, HashProvider(), 10)[:2] == [Place(0, 10), Place(9, 19)]
    assert all(marked[start] == "e" for start, _ in split(marked, HashProvider(), 10))


def test_a_text_far_too_long_is_read_no_further_than_its_passages(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    class Counting(Words):
        def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
            read.append(len(text))
            return super().token_spans(text)

    monkeypatch.setattr(splitting, "PIECE", 1_000)
    monkeypatch.setattr(splitting, "MAX_PASSAGES", 10)
    places = split("word " * 100_000, Counting(), 8)
    assert (len(places), sum(read) <= 1_000) == (10, True)


def test_a_text_that_cannot_be_long_is_not_tokenised() -> None:
    class Silent(Words):
        def count_all(self, texts: Sequence[str]) -> list[int]:
            assert not texts
            return []

        def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
            raise AssertionError(text)

    assert split_long(["12345678", ""], Silent()) == {}


def test_what_was_counted_is_embedded_the_same() -> None:
    texts = ["a short text", *(f"{n} river bank " * 40 for n in range(3)), "river " * 300]
    plain = StaticProvider().embed_batch(texts)
    assert list(split_long(texts, STATIC)) == texts[-1:]
    for _ in range(2):
        assert np.array_equal(np.array(plain), np.array(STATIC.embed_batch(texts)))


def test_the_window_allows_for_the_prefix_of_a_passage() -> None:
    provider = Words()
    provider.passage_prefix = "passage : "
    assert (provider.window, Words().window, HashProvider().window) == (6, 8, None)
    provider.passage_tokens = 4
    assert provider.window == 4
    provider.passage_tokens = 0
    assert provider.window is None


def test_a_transformer_s_own_tokens_are_counted(minilm: Path) -> None:
    provider = FastEmbedProvider(str(minilm))
    text = "A heron stands in the river. " * 300
    ((places),) = split_long([text], provider).values()
    counted = [provider.count_tokens(text[start:end]) for start, end in places]
    assert provider.max_tokens is not None
    assert provider.max_tokens * 3 // 4 < max(counted) <= provider.max_tokens


def test_a_provider_decides_how_it_splits(minilm: Path) -> None:
    for provider in (
        StaticProvider(passage_tokens=64),
        FastEmbedProvider(str(minilm), passage_tokens=64),
        OpenAIProvider(passage_tokens=64),
    ):
        assert get_provider(provider.name, **provider.options).passage_tokens == 64
    assert StaticProvider(passage_tokens=64).fingerprint == STATIC.fingerprint


# writing


def test_each_passage_is_embedded_and_reports_count_records(
    filled: SearchEngine, provider: Words, engine: Engine
) -> None:
    (call,) = provider.calls
    assert (len(call), "".join(call).count("heron"), call[-1]) == (4, 1, SHORT)
    (status,) = filled.get_status()
    assert (status.indexed, status.pending, status.failed, rows(engine, "kdb_embedding_g1")) == (2, 0, 0, 4)


def test_progress_counts_records(search: SearchEngine, provider: Words) -> None:
    counts: list[tuple[int, int]] = []
    report = search.index_records_batch(
        [("Page", "1", PAGES), ("Page", "2", SHORT)], progress=lambda *at: counts.append(at)
    )
    assert (report.embedded, counts[-1], max(done for done, _ in counts)) == (2, (2, 2), 2)


def test_a_commit_embeds_its_passages_with_one_call(search: SearchEngine, provider: Words, engine: Engine) -> None:
    Base.metadata.create_all(engine)
    session_of = search.attach(sessionmaker(engine))
    with session_of() as session:
        session.add(Note(title="pages", body=PAGES))
        session.commit()
        (hit,) = search.search("heron among river reeds", mode="vector")
        assert (len(provider.calls), "heron" in hit.matched_text, "fox" in hit.matched_text) == (1, True, False)
        session.get_one(Note, 1).body = f"{PAGES} A badger digs at night under the old oak."
        session.commit()
    (hit,) = search.search("badger digs under the oak", mode="vector")
    assert (len(provider.calls), "badger" in hit.matched_text, "fox" in hit.matched_text) == (2, True, False)


def test_a_rewrite_leaves_no_passage_of_the_older_text(filled: SearchEngine, engine: Engine) -> None:
    filled.index_record("Page", "1", SHORT)
    assert rows(engine, "kdb_embedding_g1") == 2
    (hit, _) = filled.search("heron", mode="vector")
    assert hit.matched_text == SHORT
    filled.delete_record("Page", "1")
    assert rows(engine, "kdb_embedding_g1") == 1


def test_all_of_a_batch_of_many_passages_is_written(search: SearchEngine, engine: Engine) -> None:
    records = [("Page", str(n), " ".join(f"word{n}x{m}" for m in range(40))) for n in range(210)]
    assert search.index_records_batch([*records, ("Page", "short", SHORT)]).embedded == 211
    assert rows(engine, "kdb_embedding_g1 WHERE start_at IS NULL") == 1
    for n in (0, 209):
        (hit,) = search.search(f"word{n}x30 word{n}x31 word{n}x32", mode="vector", limit=1)
        assert (hit.id, f"word{n}x31" in hit.matched_text) == (str(n), True)


def test_a_refused_passage_leaves_the_others_and_counts_its_record_once(
    search: SearchEngine, provider: Words, engine: Engine
) -> None:
    provider.refuse = lambda text: TextRefused("poison") if "fox" in text or "heron" in text else None
    report = search.index_records_batch([("Page", "1", PAGES), ("Page", "2", SHORT)])
    assert (report.embedded, report.failed, report.pending) == (1, 1, 0)
    (failure,) = search.failures()
    assert (failure.id, failure.message) == ("1", "passage 2 of 3: poison")
    assert search.get_status()[0].failed == 1
    assert ids(search.search("one two three four", mode="vector", limit=1)) == ["1"]
    assert rows(engine, "kdb_embedding_g1 WHERE embedding IS NULL") == 2
    provider.refuse = lambda _text: None
    assert search.sync(retry_failed=True).embedded == 1
    assert (search.failures(), search.get_status()[0].failed) == ([], 0)
    assert "heron" in search.search("grey heron", mode="vector")[0].matched_text


def test_fewer_passages_of_the_same_text_take_the_place_of_more(
    search: SearchEngine, provider: Words, engine: Engine
) -> None:
    provider.refuse = lambda text: TextRefused("poison") if "heron" in text else None
    search.index_record("Page", "1", PAGES)
    provider.passage_tokens = 0
    provider.refuse = lambda _text: None
    search.sync(retry_failed=True)
    assert rows(engine, "kdb_embedding_g1") == 1
    (hit,) = search.search("one two", mode="vector")
    assert hit.matched_text == PAGES


def test_an_outage_in_a_passage_leaves_its_record_pending(
    search: SearchEngine, provider: Words, engine: Engine
) -> None:
    provider.refuse = lambda text: ProviderUnavailable("down") if "heron" in text else None
    report = search.index_records_batch([("Page", "1", PAGES), ("Page", "2", SHORT)])
    assert (report.embedded, report.failed, report.pending) == (1, 0, 1)
    assert (rows(engine, "kdb_embedding_g1"), search.get_status()[0].pending) == (1, 1)
    provider.refuse = lambda _text: None
    assert search.sync().embedded == 1
    assert rows(engine, "kdb_embedding_g1") == 4


def test_a_reindex_makes_and_copies_passages_and_its_plan_counts_them(
    filled: SearchEngine, provider: Words, engine: Engine
) -> None:
    filled.index_record("Other", "1", PAGES)
    plan = filled.reindexing.plan(force=True)
    assert (plan.rows, plan.distinct) == (3, 4)
    filled.reindex("Page", force=True)
    assert rows(engine, "kdb_embedding_g2") == 7
    for entity in ("Page", "Other"):
        (hit, *_) = filled.search("grey heron among tall river reeds", mode="vector", entity=entity)
        assert ("heron" in hit.matched_text, hit.matched_text == PAGES) == (True, False)


def test_passages_that_cannot_be_are_refused(make: Make) -> None:
    provider = Words()
    for wrong in (-5, 1.5, "x", True, False, 15):
        message = f"from 16 on, 0 to embed a text.s beginning .*, not {wrong!r}"
        with pytest.raises(InvalidInput, match=message):
            StaticProvider(passage_tokens=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match=message):
            CallableProvider(provider.embed_batch, dimensions=8, model_name="own", passage_tokens=wrong)
        provider.passage_tokens = wrong  # type: ignore[assignment]
        with pytest.raises(InvalidInput, match=message):
            make(provider).index_record("Page", "1", PAGES)
    for right in (None, 0, 16):
        assert StaticProvider(passage_tokens=right).passage_tokens == right


# searching


def test_text_on_page_three_is_found_and_shown(filled: SearchEngine) -> None:
    for mode in ("vector", "hybrid"):
        hit, *others = filled.search("grey heron among tall river reeds", mode=mode, highlight=True)
        assert (hit.id, hit.matched_text in PAGES, len(hit.matched_text.split()) <= 8) == ("1", True, True)
        assert [other.matched_text for other in others] == [SHORT] * (mode == "vector")
        marked = [hit.matched_text[start:end] for start, end in hit.spans]
        assert {"heron", "reeds"} <= set(marked)


def test_keywords_show_the_full_text(filled: SearchEngine) -> None:
    (hit,) = filled.search("heron", mode="keyword")
    assert hit.matched_text == PAGES


def test_passages_of_one_record_take_no_other_s_place(make: Make, provider: Words, engine: Engine) -> None:
    search = make(provider)
    store = RecordStore(search)
    store.create_entity("Page", search=["body"], fields={"kind": "text"})
    records = [{"id": str(n), "body": f"fox and bear{n}", "kind": "page"} for n in range(6)]
    store.insert("Page", [{"id": "long", "body": "fox " * 1_200, "kind": "page"}, *records])
    assert rows(engine, "kdb_embedding_g1") > 150
    for where in (None, None, {"kind": "page"}, {"kind": "page"}):
        found = search.search("fox", mode="vector", where=where)
        assert (sorted(ids(found)), found.exact) == (sorted(["long", *map(str, range(6))]), True)


def test_page_three_is_found_with_the_bundled_model(make: Make) -> None:
    search = make(StaticProvider())
    page = "The committee met on Tuesday to talk about the budget of the library and its opening hours. " * 20
    minutes = f"{page}\n\n{page}\n\nThe salary of the night watchman was not paid in March.\n\n{page}"
    search.index_records_batch([("Minutes", "1", minutes), ("Minutes", "2", page)])
    found = search.search("wages overdue", mode="vector")
    assert (found[0].id, "watchman" in found[0].matched_text) == ("1", True)
    assert len(found[0].matched_text) < 2_000
