"""A record's text: rendering of fields, normalisation, analysis for the keyword index, and its hash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kameleon.content import analyze, check_id, content_hash, normalize, render
from kameleon.errors import InvalidRecord


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("plain words only", ""),
        ("C++ and C# on .NET", "Cplusplus Csharp dotNET"),
        ("policy POL-358", "POL358"),
        ("order #12345.", "hash12345"),
        ("don't, don’t", "dont dont"),
        ("the film's end", ""),
        ("is it C#?", "Csharp"),
        ("a Node.js app", "Nodejs"),
        ("ERR_CONN_RESET", "ERRCONNRESET"),
        ("v1.2.3", "v123"),
        ("ends here. Next", ""),
        ("- a dash - # + '", ""),
        ("e-mail me@x.org", "email mexorg"),
    ],
)
def test_analyze_adds_what_analysers_lose(text: str, added: str) -> None:
    assert analyze(text).removeprefix(text).strip() == added


def test_analyze_adds_every_character_and_pair_of_a_cjk_run() -> None:
    assert analyze("全文検 x") == "全文検 x 全 文 検 全文 文検"


@given(st.text())
def test_analyze_keeps_the_text_and_adds_only_words(text: str) -> None:
    analyzed = analyze(text)
    assert analyzed.startswith(text)
    assert not set("-./:@&+'’_#") & set(analyzed[len(text) :])


@given(st.text(alphabet="a-_./#+'’1 ", min_size=200, max_size=400))
def test_analyze_takes_symbols_in_any_order(text: str) -> None:
    assert analyze(text).startswith(text)


def test_the_hash_distinguishes_texts_and_is_empty_for_no_text() -> None:
    assert content_hash("a") != content_hash("b")
    assert len(content_hash("a")) == 32
    assert [content_hash(blank) for blank in ("", " ", "\n\t\u3000")] == ["", "", ""]


def test_normalize_refuses_half_a_surrogate_pair_by_its_place() -> None:
    assert normalize("a\0b") == "a b"
    with pytest.raises(InvalidRecord, match=r"U\+D800\) at character 2"):
        normalize("ab\ud800")


def test_an_infinite_number_is_rendered_as_a_word() -> None:
    assert render({"a": float("-inf"), "b": 1e16}, ["a", "b"]) == "-inf\n10000000000000000"


def test_render_joins_the_fields_in_their_order() -> None:
    data = {"body": "text", "title": "Name", "tags": ["a", "b"], "empty": "", "none": None, "n": 3, "yes": True}
    assert render(data, ["title", "body", "tags", "empty", "none", "n", "yes", "missing"]) == "Name\ntext\na, b\n3"
    assert render({"author": {"name": "Ann", "town": "Oslo"}}, ["author"]) == "Ann, Oslo"


@pytest.mark.parametrize("digits", [309, 1024])
def test_an_id_of_as_many_digits_as_bytes_is_taken_as_a_number_and_as_text(digits: int) -> None:
    assert check_id(10 ** (digits - 1)) == check_id("1" + "0" * (digits - 1))


@pytest.mark.parametrize("digits", [1025, 1300, 5000])
def test_a_longer_id_is_refused_as_a_number_and_as_text(digits: int) -> None:
    for value in (10 ** (digits - 1), "1" + "0" * (digits - 1)):
        with pytest.raises(InvalidRecord, match=rf"1024 bytes at most, this .* {digits}\b"):
            check_id(value)
