"""A record's text: rendering of fields, normalisation, and its hash."""

import pytest

from kameleon.content import check_id, content_hash, normalize, render
from kameleon.errors import InvalidRecord


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
