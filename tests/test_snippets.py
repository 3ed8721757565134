"""Snippets: where they are cut, what they mark, in texts of any length and script."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kameleon import RecordStore, SearchEngine, SearchResult, Snippet
from kameleon.analysis.analyser import Analyser, analyser, merged
from kameleon.analysis.cutting import is_whole, is_word_end
from kameleon.analysis.finding import WordFinder
from kameleon.errors import InvalidInput
from kameleon.search.snippets import all_occurrences, best_window, make_snippet

from .conftest import Make, with_server

ENGLISH = analyser("english")
NOWHERE = (False, False)
LATIN = re.compile(r"[a-z]")


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def snippet_of(text: str, query: str, length: int = 180, of: Analyser = ENGLISH) -> Snippet:
    words = of.query_terms(query)
    found = all_occurrences(of, WordFinder(of, words), text, words, length)
    return make_snippet(text, found, length, NOWHERE)


def snippet(hit: SearchResult) -> Snippet:
    assert hit.snippet is not None
    return hit.snippet


MARKED = ["漢字", "狐", "แมว", "e\u0301", "👩\u200d🚀", "🇩🇪"]
PIECES = ["fox", "foxes", "reed", "the", "word.", "End!\n", "\n", "  ", *MARKED, "x" * 30]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=120).map(" ".join) | st.lists(st.sampled_from(PIECES)).map("".join)


@given(TEXTS, st.sampled_from(["fox", "reed fox", "狐", "漢字 fox", "absent"]), st.integers(20, 200))
@settings(max_examples=300, deadline=None)
def test_a_snippet_is_a_bounded_part_of_its_text_that_has_what_matched(text: str, query: str, length: int) -> None:
    made = snippet_of(text, query, length)
    end = made.start + len(made.text)
    assert len(made.text) <= length
    assert made.text == re.sub(r"\s", " ", text[made.start : end])
    assert made.text == made.text.strip()
    assert (made.is_cut_before, made.is_cut_after) == (bool(text[: made.start].strip()), bool(text[end:].strip()))
    assert all(0 <= start < stop <= len(made.text) for start, stop in made.spans)
    assert list(made.spans) == merged(made.spans)
    assert bool(made.spans) == bool(ENGLISH.marks(text, ENGLISH.query_terms(query)))
    for place in (made.start, end):
        assert is_whole(text, place)
        around = text[max(0, place - 1) : place + 1]
        is_inside = len(around) == 2 and all(map(LATIN.match, around))
        words = (word for word in re.finditer(r"\w+", text) if word.start() < place < word.end())
        assert not is_inside or any(len(word.group()) > 20 for word in words), "words longer than a snippet are cut"


def test_the_window_has_most_distinct_words_then_most_occurrences_then_is_the_first() -> None:
    found = [(0, 3, 0), (10, 13, 0), (200, 203, 0), (210, 214, 1), (400, 403, 0), (410, 413, 0), (420, 423, 0)]
    best = best_window(found, 50)
    assert best is not None
    assert (best.start, best.end, best.words) == (200, 214, 2)
    best = best_window([each for each in found if not each[2]], 50)
    assert best is not None
    assert (best.start, best.occurrences) == (400, 3)
    best = best_window([(0, 3, 0), (200, 203, 0)], 50)
    assert best is not None
    assert best.start == 0
    assert best_window([], 50) is None


def test_a_snippet_begins_with_a_sentence_that_leaves_the_match_in_it() -> None:
    text = f"{'Nothing is here. ' * 20}A heron stood by the old mill. {'More of nothing. ' * 20}"
    made = snippet_of(text, "mill heron", 60)
    assert made.text.startswith("A heron stood by the old mill.")
    assert [made.text[start:end] for start, end in made.spans] == ["heron", "mill"]
    assert str(made).startswith("…A heron")
    assert str(made).endswith("…")
    assert made.highlight("[", "]").startswith("…A [heron] stood by the old [mill].")


def test_a_match_in_a_long_sentence_is_in_the_middle() -> None:
    text = f"{'word ' * 200}heron {'word ' * 200}"
    made = snippet_of(text, "heron", 60)
    ((start, _),) = made.spans
    assert 15 <= start <= 40
    assert made.text.startswith("word ")
    assert made.text.endswith(" word")


def test_the_end_of_a_text_is_shown_as_far_as_a_snippet_is_long() -> None:
    made = snippet_of(f"{'word ' * 200}heron", "heron", 60)
    assert (len(made.text), made.text[-11:], made.is_cut_after) == (60, " word heron", False)


def test_scripts_without_spaces_are_cut_between_characters() -> None:
    japanese = "吾輩は猫である名前はまだ無い" * 20 + "狐が川を渡った" + "どこで生れたかとんと見当がつかぬ" * 20
    made = snippet_of(japanese, "狐が川", 30)
    assert len(made.text) == 30
    assert "狐が川" in made.text
    thai = "แมวกินปลาที่บ้าน" * 20 + "จิ้งจอกข้ามแม่น้ำ" + "แมวกินปลาที่บ้าน" * 20
    made = snippet_of(thai, "จิ้งจอก", 30)
    assert 25 <= len(made.text) <= 30
    assert made.spans
    assert is_word_end(thai, made.start)
    assert is_word_end(thai, made.start + len(made.text))


@pytest.mark.parametrize("filler", ["the quick brown dog. ", "漢字仮名交文"])
def test_a_match_far_into_a_long_text_is_found(filler: str) -> None:
    text = filler * (60_000 // len(filler)) + " A heron by the Mühle. " + filler * 4_000
    made = snippet_of(text, "heron muhle", 80)
    assert [made.text[start:end] for start, end in made.spans] == ["heron", "Mühle"]
    assert abs(made.start - 60_000) < 200


def test_of_far_matches_the_one_with_most_words_is_shown() -> None:
    matches = ("a heron", "a mill", "a heron at a mill", "a heron")
    text = "".join(f"{'dull words. ' * 2_000} {match}. " for match in matches)
    assert "a heron at a mill" in snippet_of(text, "heron mill").text


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_a_hit_shows_its_match_wherever_it_is(search: SearchEngine, mode: str) -> None:
    page = "The committee met on Tuesday,\nand talked about opening hours. " * 800
    search.index_record("Minutes", "1", f"{page}The night watchman's salary was not paid. {page}")
    (hit,) = search.search("watchman salaries", mode=mode, highlight=True)
    made = snippet(hit)
    assert made.text.startswith("The night watchman's salary was not paid.")
    assert [made.text[start:end] for start, end in made.spans] == ["watchman", "salary"]
    assert hit.matched_text[made.start : made.start + len(made.text)].replace("\n", " ") == made.text
    assert {(start - made.start, end - made.start) for start, end in hit.spans} >= set(made.spans)
    assert len(made.text) <= 180
    assert made.is_cut_before
    assert made.is_cut_after
    (short,) = search.search("watchman salaries", mode=mode, highlight=True, snippet_length=40)
    assert len(snippet(short).text) <= 40
    assert snippet(short).spans
    assert snippet(short).highlight().startswith("…The night <mark>watchman</mark>")


def test_a_hit_without_a_word_shows_the_nearest_sentence(make: Make) -> None:
    search = make("static")
    search.index_record("Page", "1", f"{'The grass is green. ' * 15}A vessel sails over the ocean. {'It rains. ' * 15}")
    (hit,) = search.search("ship on the sea", mode="vector", highlight=True)
    made = snippet(hit)
    assert made.text.startswith("A vessel sails over the ocean.")
    assert [made.text[start:end] for start, end in made.spans] == ["A vessel sails over the ocean."]


def test_an_empty_query_shows_the_beginning(search: SearchEngine) -> None:
    RecordStore(search).insert("Page", [{"id": 1, "text": "A heron. " * 100}])
    (hit,) = search.search(highlight=True, snippet_length=30)
    assert snippet(hit) == Snippet("A heron. A heron. A heron. A", is_cut_after=True)
    assert not hit.spans


def test_what_is_not_to_be_shown_makes_no_snippet(search: SearchEngine) -> None:
    search.index_record("Page", "1", "a heron")
    assert [hit.snippet for hit in search.search("heron")] == [None]
    refused: list[tuple[dict[str, Any], str]] = [
        ({"snippet_length": 100}, "give both"),
        ({"snippet_length": 19, "highlight": True}, "from 20 to 2,000"),
        ({"snippet_length": 2_001, "highlight": True}, "from 20 to 2,000"),
        ({"snippet_length": True, "highlight": True}, "from 20 to 2,000"),
    ]
    for options, message in refused:
        with pytest.raises(InvalidInput, match=message):
            search.search("heron", **options)
