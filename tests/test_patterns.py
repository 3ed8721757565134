"""Filters on what is in texts and lists: patterns, ranges and members, on stored records, documents and columns."""

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.errors import InvalidFilter
from kameleon.stores.filters import parse_filter
from kameleon.stores.patterns import MAX_PATTERN, cases, successor

from .conftest import Indexes, ids


class Base(DeclarativeBase):
    pass


@searchable(fields=["text"])
class Pattern(Base):
    __tablename__ = "pattern_row"

    id: Mapped[str] = mapped_column(String(8), primary_key=True)
    text: Mapped[str]
    name: Mapped[str | None]
    n: Mapped[float | None]
    tags: Mapped[Any] = mapped_column(JSON, nullable=True)


ROWS: dict[str, dict[str, Any]] = {
    "a": {"name": "Ärger im Büro", "n": 1, "tags": ["red", 7, None]},
    "b": {"name": "ärgerlich", "n": 2.5, "tags": ["blue"]},
    "c": {"name": "100% [x] *?\\_\nend", "n": 3, "tags": []},
    "d": {"name": "Straße", "n": 4, "tags": "redder"},
    "e": {"name": "STRAẞE", "n": None, "tags": ["red", True, "2026-01-31T12:30Z"]},
    "f": {"name": "", "n": -1, "tags": {"a": 1}},
    "g": {"name": None, "n": 5, "tags": [["red"], 1]},
    "h": {"name": "iİıI", "n": 6, "tags": None},
    "i": {"name": "\U0010ffff\ud7ff😀", "n": 7, "tags": [1.0, 2**53]},
    "j": {"name": "no%such_thing", "n": 8, "tags": ["7"]},
}
TEXTS = {id_: row["name"] for id_, row in ROWS.items() if row["name"] is not None}
NAMES: list[tuple[dict[str, Any], str]] = [
    ({"name": {"$startswith": "Ä"}}, "a"),
    ({"name": {"$startswith": "100% ["}}, "c"),
    ({"name": {"$startswith": ""}}, "abcdefhij"),
    ({"name": {"$startswith": "\U0010ffff"}}, "i"),
    ({"name": {"$startswith": "\U0010ffff\ud7ff"}}, "i"),
    ({"name": {"$contains": "Rger"}}, ""),
    ({"name": {"$contains": "rger"}}, "ab"),
    ({"name": {"$like": "%rger%"}}, "ab"),
    ({"name": {"$like": "ärger%"}}, "b"),
    ({"name": {"$like": "Stra_e"}}, "d"),
    ({"name": {"$like": "%\n%"}}, "c"),
    ({"name": {"$like": "%[x]%"}}, "c"),
    ({"name": {"$like": "100\\% [x] *?\\\\\\_%"}}, "c"),
    ({"name": {"$like": "no\\%such\\_thing"}}, "j"),
    ({"name": {"$like": "no%%thing"}}, "j"),
    ({"name": {"$like": "\\n\\o_such%"}}, "j"),
    ({"name": {"$like": "__😀"}}, "i"),
    ({"name": {"$like": ""}}, "f"),
    ({"name": {"$like": "%"}}, "abcdefhij"),
    ({"name": {"$ilike": "äRGER%"}}, "ab"),
    ({"name": {"$ilike": "straße"}}, "de"),
    ({"name": {"$ilike": "STRASSE"}}, ""),
    ({"name": {"$ilike": "iİıi"}}, "h"),
    ({"name": {"$ilike": "iiii"}}, ""),
    ({"name": {"$icontains": "BÜRO"}}, "a"),
    ({"name": {"$icontains": "% ["}}, "c"),
    ({"name": {"$icontains": "*?\\"}}, "c"),
    ({"name": {"$icontains": ""}}, "abcdefhij"),
    ({"name": {"$not": {"$icontains": "r"}}}, "cfghij"),
    ({"name": {"$not": ["Straße", None]}}, "abcefhij"),
    ({"name": {"$between": ["S", "a"]}}, "de"),
    ({"n": {"$between": [2, 4]}}, "bcd"),
    ({"n": {"$between": (4, 2)}}, ""),
    ({"n": {"$not": {"$between": [2, 7.5]}}}, "aefj"),
    ({"name": {"$startswith": "S", "$ilike": "%e"}, "n": {"$between": [0, 9]}}, "d"),
    ({"id": {"$between": ["b", "d"]}}, "bcd"),
    ({"id": {"$startswith": "b"}}, "b"),
    ({"id": {"$ilike": "_"}}, "abcdefghij"),
    ({"id": {"$not": ["a", "b"]}}, "cdefghij"),
]
LISTS: list[tuple[dict[str, Any], str]] = [
    ({"tags": {"$any": ["red", "blue"]}}, "abe"),
    ({"tags": {"$any": [7]}}, "a"),
    ({"tags": {"$any": ["7", None]}}, "aj"),
    ({"tags": {"$any": [True, 1]}}, "egi"),
    ({"tags": {"$any": []}}, ""),
    ({"tags": {"$any": [2**53, 0.5]}}, "i"),
    ({"tags": {"$any": [{"$date": "2026-01-31T12:30:00Z"}]}}, "e"),
    ({"tags": {"$all": ["red", True]}}, "e"),
    ({"tags": {"$all": ["red", 7, None]}}, "a"),
    ({"tags": {"$all": ["red", "blue"]}}, ""),
    ({"tags": {"$all": []}}, "abcegij"),
    ({"tags": {"$not": {"$any": ["red"]}}}, "bcdfghij"),
    ({"tags": {"$like": "%r"}}, "d"),
    ({"tags": {"$icontains": "RED"}}, "d"),
    ({"tags": {"$startswith": "red"}}, "d"),
    ({"tags": {"$startswith": "["}}, ""),
]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(search: SearchEngine) -> None:
    RecordStore(search).insert("Stored", [{"id": id_, "text": "x", **row} for id_, row in ROWS.items()])
    Base.metadata.create_all(search.engine)
    with search.attach(sessionmaker(search.engine)).begin() as session:
        session.add_all(Pattern(id=id_, text="x", **row) for id_, row in ROWS.items())


@pytest.fixture
def filled(indexes: Indexes, backend: str) -> SearchEngine:
    return indexes(backend, fill)


def found(search: SearchEngine, where: dict[str, Any], entity: Any) -> str:
    return "".join(sorted(ids(search.search(where=where, entity=entity, limit=100))))


@pytest.mark.parametrize("entity", ["Stored", Pattern])
def test_texts_and_lists_are_compared_alike(filled: SearchEngine, entity: Any) -> None:
    assert [(where, found(filled, where, entity)) for where, _ in (*NAMES, *LISTS)] == [*NAMES, *LISTS]


def test_a_filter_of_every_operator_is_in_both_legs(filled: SearchEngine) -> None:
    for where, wanted in ({"name": {"$icontains": "BÜRO"}}, "a"), ({"tags": {"$any": ["red"]}}, "ae"):
        for mode in ("keyword", "vector", "hybrid"):
            assert "".join(sorted(ids(filled.search("x", where=where, entity="Stored", mode=mode)))) == wanted
    assert [record.id for record in RecordStore(filled).list("Stored", where={"name": {"$like": "Str%"}})] == ["d"]


LETTERS = st.text(st.sampled_from("aAäÄsSſßẞσςΣkK\u212aé[]*?^-%_\\ .+({|$\n😀"), max_size=6)


def as_expression(pattern: str) -> str:
    made, characters = "", iter(pattern)
    for character in characters:
        if character == "\\":
            made += re.escape(next(characters))
        else:
            made += {"%": ".*", "_": "."}.get(character, re.escape(character))
    return made


@given(pattern=LETTERS, texts=st.lists(LETTERS, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_patterns_are_read_as_python_reads_them(search: SearchEngine, pattern: str, texts: list[str]) -> None:
    rows = [{"id": f"{n:02}", "text": "x", "name": text} for n, text in enumerate(texts)]
    RecordStore(search).insert("Letters", rows, on_conflict="replace")
    readings: dict[str, Any] = {
        "$startswith": lambda text: text.startswith(pattern),
        "$contains": lambda text: pattern in text,
        "$icontains": lambda text: re.search(re.escape(pattern), text, re.IGNORECASE),
    }
    if not (len(pattern) - len(pattern.rstrip("\\"))) % 2:
        expression = as_expression(pattern)
        readings["$like"] = lambda text: re.fullmatch(expression, text, re.DOTALL)
        readings["$ilike"] = lambda text: re.fullmatch(expression, text, re.DOTALL | re.IGNORECASE)
    among = {"id": {"$in": [row["id"] for row in rows]}}
    for operator, reads in readings.items():
        wanted = [row["id"] for row in rows if reads(row["name"])]
        hits = search.search(where={"name": {operator: pattern}, **among}, entity="Letters", limit=100)
        assert (operator, ids(hits)) == (operator, wanted)


@pytest.mark.parametrize("entity", ["Stored", Pattern])
def test_long_patterns_end(filled: SearchEngine, entity: Any) -> None:
    for pattern in ("%a" * 1000, "ſ" * MAX_PATTERN, "_%" * 1000, "[" * MAX_PATTERN, "%_" * 999 + "\\%"):
        for operator in ("$like", "$ilike", "$icontains", "$startswith"):
            assert found(filled, {"name": {operator: pattern}}, entity) == ""
    deep: dict[str, Any] = {"name": {"$ilike": "%rger%"}}
    for _ in range(30):
        deep = {"$not": deep}
    assert found(filled, deep, entity) == "ab"


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"$startswith": 5}, r"\$startswith takes a text, not 5"),
        ({"$like": None}, r"\$like takes a text, not None"),
        ({"$icontains": ["a"]}, r"\$icontains takes a text"),
        ({"$ilike": "x\\"}, "ends with a backslash"),
        ({"$ilike": "x" * 2001}, "2,000 characters at most, not 2,001"),
        ({"$like": "a\ud800"}, "lone surrogate"),
        ({"$any": "red"}, r"\$any takes a list, not 'red'"),
        ({"$all": [["red"]]}, r"\$all takes a list of single values"),
        ({"$all": ["x"] * 201}, "200 values at most, not 201"),
        ({"$between": 5}, "a list of two values"),
        ({"$between": [1, 2, 3]}, "a list of two values"),
        ({"$between": [1, "2"]}, "two numbers, two texts or two dates"),
        ({"$between": [None, 2]}, "compares with a number or a text"),
        ({"$not": {"$like": 1}}, r"\$like takes a text"),
    ],
)
def test_what_cannot_hold_is_refused(condition: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFilter, match=message):
        parse_filter({"name": condition})


def test_a_column_without_lists_or_texts_is_named(filled: SearchEngine) -> None:
    with pytest.raises(InvalidFilter, match=r"\$any holds for lists alone: name is .*Use \$in"):
        found(filled, {"name": {"$any": ["red"]}}, Pattern)
    with pytest.raises(InvalidFilter, match=r"\$icontains on a column takes .* a column of texts: n is"):
        found(filled, {"n": {"$icontains": "1"}}, Pattern)


def test_letters_have_the_cases_of_unicode() -> None:
    assert [cases(letter) for letter in "kſßσı1é"] == ["Kk\u212a", "Ssſ", "ßẞ", "Σςσ", "ı", "1", "Éé"]
    following = {"a": "b", "a\U0010ffff": "b", "\ud7ff": "\ue000", "\U0010ffff": None, "": None}
    assert {text: successor(text) for text in following} == following
