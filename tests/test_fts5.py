"""The terms that SQLite's FTS5 reads in a text, against kameleon's own reading of it."""

import sqlite3
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kameleon.stores.sqlite.fts5 import TOKENIZERS, TextReader, match_any, varints
from kameleon.stores.values import Term

READER = TextReader(sqlite3, "english")


def test_terms_are_the_index_s_own() -> None:
    assert READER.terms("Refunds refunded; Ünïted café") == [
        Term("refunds", "refund", times=2),
        Term("united", "unit"),
        Term("cafe", "cafe"),
    ]


def test_counts_and_lengths_are_the_index_s_own() -> None:
    texts = ["fox foxes bear", "", "the fox"]
    assert READER.count(texts, READER.terms("fox bear")) == [(3, {"fox": 2, "bear": 1}), (0, {}), (2, {"fox": 1})]


@given(st.lists(st.text(st.sampled_from("aé\u0301_-.ßx9 \x85\u3000全文'\0"), max_size=20), max_size=5))
def test_texts_read_in_chunks_give_the_terms_that_fts5_reads(texts: list[str]) -> None:
    terms = READER.terms(" ".join(texts))
    with sqlite3.connect(":memory:") as connection:
        connection.execute(f"CREATE VIRTUAL TABLE t USING fts5(c, tokenize = '{TOKENIZERS['english']}')")
        connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab(t, instance)")
        rows = [(row, content.replace("\0", " ")) for row, content in enumerate(texts)]
        connection.executemany("INSERT INTO t (rowid, c) VALUES (?, ?)", rows)
        found = [connection.execute("SELECT term FROM v WHERE doc = ?", (row,)).fetchall() for row, _ in rows]
    stems = {term.stem for term in terms}
    assert READER.count(texts, terms) == [
        (len(rows), Counter(stem for (stem,) in rows if stem in stems)) for rows in found
    ]


def test_spans_are_places_of_the_text_as_it_was_given() -> None:
    text = "A \ue000fox\0and FOXES, 全文検索"
    (spans,) = READER.spans("fox 文検", READER.terms("fox"), [text])
    assert [text[start:end] for start, end in spans] == ["fox", "FOXES", "文検"]


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    terms = READER.terms(text)
    ((length, counts),) = READER.count([text], terms)
    assert length >= len(terms)
    assert set(counts) == {term.stem for term in terms}
    (spans,) = READER.spans(text, terms, [text])
    assert list(spans) == sorted(set(spans))
    assert bool(spans) >= bool(terms)


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_a_match_of_quoted_terms_is_never_query_syntax(words: list[str]) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    terms = [Term(term.surface, term.stem) for word in words for term in READER.terms(word)]
    if terms:
        assert connection.execute("SELECT * FROM t WHERE t MATCH ?", (match_any(terms),)).fetchall() == []
    connection.close()


@pytest.mark.parametrize(
    ("block", "values"), [(b"\x01\x7f", [1, 127]), (b"\x81\x00", [128]), (b"\x82\x80\x05", [32773])]
)
def test_varints(block: bytes, values: list[int]) -> None:
    assert varints(block) == values
