"""The best passages of each hit, with their places in its content."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from kameleon import Passage, RecordStore, SearchEngine, SearchResult
from kameleon.content import Field
from kameleon.errors import InvalidInput
from kameleon.search.passages import PASSAGE_CHARACTERS, cut

from .conftest import Make, with_server
from .test_passages import PAGES, SHORT, Words

FILLER = "Grey herons stand among the river reeds for hours and hours. " * 40
LONG = f"{FILLER}The night watchman was not paid in March.\n{FILLER}A salary is overdue. {FILLER}"


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def content_of(engine: Engine, entity: str, id_: str) -> str:
    with engine.connect() as connection:
        query = "SELECT content FROM kdb_search WHERE entity_name = '{}' AND record_id = '{}'"
        return str(connection.exec_driver_sql(query.format(entity, id_)).scalar_one())


def in_place(hit: SearchResult, content: str) -> tuple[Passage, ...]:
    """The passages, which are where they are stated to be, in their order."""
    assert hit.passages
    for passage in hit.passages:
        assert content[passage.start : passage.end] == passage.text == passage.text.strip() != ""
        assert 0 <= passage.score <= 1
    scores = [passage.score for passage in hit.passages]
    assert scores == sorted(scores, reverse=True)
    return hit.passages


@given(st.text(alphabet="ab. \n漢e\u0301", max_size=5_000), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_a_text_is_cut_into_all_of_itself(text: str, start: int) -> None:
    start = min(start, len(text))
    places = list(cut(text * 3, start, len(text) * 3))
    assert [end for _, end in places][:-1] == [begin for begin, _ in places][1:]
    assert all(0 < end - begin <= PASSAGE_CHARACTERS for begin, end in places)
    assert "".join((text * 3)[begin:end] for begin, end in places) == (text * 3)[start:]


def test_stored_passages_are_ranked_by_their_own_vectors_and_words(make: Make) -> None:
    search = make(Words())
    search.index_records_batch([("Page", "1", PAGES), ("Page", "2", SHORT)])
    first, second = search.search("grey heron stands among tall river reeds bear", passages=3)
    best, *rest = in_place(first, PAGES)
    assert "Grey heron stands" in best.text
    assert best.score > 2 * rest[0].score
    assert first.matched_text == best.text
    assert len(first.passages) == 3
    assert [(passage.text, passage.start, passage.end) for passage in second.passages] == [(SHORT, 0, len(SHORT))]
    (one,) = search.search("grey heron", limit=1, passages=1)[0].passages
    assert "Grey heron" in one.text


@pytest.mark.parametrize("mode", ["keyword", "hybrid", "vector"])
def test_each_mode_finds_the_passages_that_answer(make: Make, mode: str) -> None:
    search = make("static")
    search.index_records_batch([("Minutes", "1", LONG), ("Minutes", "2", "The roof was repaired.")])
    hit = search.search("watchman salary", mode=mode, passages=2, highlight=True, limit=1)[0]
    found = in_place(hit, LONG)
    assert len(found) == 2
    if mode != "vector":
        assert {"watchman" in passage.text for passage in found} == {True, False}
        assert any("salary" in passage.text for passage in found)
        assert hit.matched_text == found[0].text
        assert hit.snippet is not None
        assert hit.snippet.spans
    assert all(len(passage.text) < 2_000 for passage in found)


def test_without_a_model_passages_are_cut_at_lines_and_sentences(make: Make) -> None:
    search = make(None)
    search.index_record("Minutes", "1", LONG)
    (hit,) = search.search("watchman salary", passages=20)
    found = in_place(hit, LONG)
    assert len(found) >= len(LONG) / PASSAGE_CHARACTERS
    assert all(passage.text.endswith(".") for passage in found)
    assert [passage.score > 0 for passage in found] == [True, True] + [False] * (len(found) - 2)


def test_a_rare_word_counts_more_than_a_common_one(make: Make) -> None:
    search = make(None)
    common, rare = "The river is wide. " * 60, "A kingfisher is here. " * 60
    search.index_records_batch([("Page", "1", common + rare), *(("Page", str(n), "river") for n in range(2, 30))])
    (hit,) = search.search("river kingfisher", limit=1, passages=1)
    assert "kingfisher" in hit.passages[0].text


@pytest.mark.parametrize("provider", [None, "static"])
def test_places_are_right_where_fields_are_for_one_leg_or_were_html(
    make: Make, engine: Engine, provider: str | None
) -> None:
    search = make(provider)
    store = RecordStore(search)
    fields: dict[str, Any] = {
        "code": Field(index="keyword"),
        "summary": Field(index="vector"),
        "body": Field(html=True),
        "tags": Field(),
    }
    store.create_entity("Item", search=fields)
    html = f"<p>{FILLER}</p>\n<p>The <b>night</b> watchman &amp; his salary.</p><p>{FILLER}</p>"
    store.insert("Item", [{"id": 1, "code": "QX-77", "summary": "owls at night", "body": html, "tags": ["a", "b"]}])
    store.insert("Item", [{"id": 2, "code": "QX-78", "summary": "owls", "body": "short", "tags": []}])
    content = content_of(engine, "Item", "1")
    for query, expected in [("watchman salary", "watchman & his salary"), ("QX-77", "QX-77")]:
        hit = search.search(query, entity="Item", passages=20, limit=1)[0]
        assert expected in in_place(hit, content)[0].text
    (short,) = search.search("QX-78", entity="Item", mode="keyword", passages=3, limit=1)
    (passage,) = in_place(short, content_of(engine, "Item", "2"))
    assert passage.text == content_of(engine, "Item", "2")
    hit = search.search("owls watchman", entity="Item", mode="keyword", passages=20, limit=1)[0]
    in_summary = [passage for passage in hit.passages if "owls" in passage.text and "watchman" not in passage.text]
    assert [passage.score for passage in in_summary] in ([], [0.0]), "the summary is for vectors alone"


def test_an_empty_query_has_the_first_passages_in_order(search: SearchEngine) -> None:
    search.index_record("Minutes", "1", LONG)
    (hit,) = search.search(passages=3)
    assert [passage.start for passage in in_place(hit, LONG)] == sorted(passage.start for passage in hit.passages)
    assert hit.passages[0].start == 0


def test_similar_reranked_and_sorted_hits_have_passages(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.insert("Page", [{"id": n, "text": f"{FILLER} watchman {n}", "year": n} for n in range(3)])
    for found in (
        search.similar("Page", "1", passages=2),
        search.search("watchman", passages=2, rerank=lambda query, texts: [0.5] * len(texts)),
        search.search("watchman", passages=2, sort="-year"),
        search.search("watchman", passages=2, group_by="entity"),
        search.search("watchman", passages=2, limit=1, offset=1),
    ):
        assert found
        assert all(len(hit.passages) == 2 for hit in found)


def test_more_passages_than_twenty_are_refused(search: SearchEngine) -> None:
    for number in (21, -1, True, 1.5):
        with pytest.raises(InvalidInput, match="passages is a whole number from 0 to 20, not"):
            search.search("heron", passages=number)  # type: ignore[arg-type]


def test_a_passage_with_a_synonym_has_the_word(make: Make) -> None:
    search = make(None)
    search.synonyms.add("nyc, new york", "cab, taxi")
    search.index_record("Page", "1", f"{FILLER}A taxi in New York is yellow. {FILLER}")
    (hit,) = search.search("nyc cab", passages=3, highlight=True)
    assert "taxi in New York" in hit.passages[0].text
    assert [passage.score > 0 for passage in hit.passages] == [True, False, False]
    assert hit.snippet is not None
    assert hit.snippet.highlight("[", "]").startswith("…A [taxi] in [New York] is yellow.")
