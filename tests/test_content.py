"""A record's text: rendering of fields, normalisation, and its hash."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kameleon.content import (
    Content,
    check_id,
    check_tenant,
    check_tenants,
    content_hash,
    gaps_as_text,
    gaps_of_text,
    items_of,
    join,
    normalize,
    render,
    text_of,
)
from kameleon.errors import InvalidInput, InvalidRecord
from kameleon.values import ALL_TENANTS, AllTenants


def test_the_hash_distinguishes_texts_and_is_empty_for_no_text() -> None:
    assert content_hash("a") != content_hash("b")
    assert len(content_hash("a")) == 32
    assert [content_hash(blank) for blank in ("", " ", "\n\t\u3000")] == ["", "", ""]


def test_normalize_refuses_half_a_surrogate_pair_by_its_place() -> None:
    assert normalize("a\0b") == "a b"
    with pytest.raises(InvalidRecord, match=r"U\+D800\) at character 2"):
        normalize("ab\ud800")


def test_an_infinite_number_is_rendered_as_a_word() -> None:
    assert render({"a": float("-inf"), "b": 1e16}, ["a", "b"]) == Content("-inf\n10000000000000000", gaps=(5,))


def test_render_joins_the_fields_in_their_order() -> None:
    data = {"body": "text", "title": "Name", "tags": ["a", "b"], "empty": "", "none": None, "n": 3, "yes": True}
    content = render(data, ["title", "body", "tags", "empty", "none", "n", "yes", "missing"])
    assert content == Content("Name\ntext\na, b\n3", gaps=(5, 10, 13, 15))
    assert render({"author": {"name": "Ann", "town": "Oslo"}}, ["author"]) == Content("Ann, Oslo", gaps=(5,))
    assert render({"none": None}, ["none"]) == Content("")


@given(st.lists(st.lists(st.text(min_size=1, max_size=4), max_size=4), max_size=4))
def test_gaps_are_where_another_item_begins(fields: list[list[str]]) -> None:
    text, _, gaps, _ = join(fields)
    items = [item for field in fields for item in field]
    assert [text[start:][: len(item)] for start, item in zip((0, *gaps), items, strict=False)] == items
    assert text == "\n".join(", ".join(field) for field in fields if field)
    assert gaps_of_text(gaps_as_text(gaps)) == gaps


def test_the_texts_in_a_value_are_its_items() -> None:
    value = {"b": ["x", "", None, True, {"c": 2.5}], "a": [["deep"], 0, Decimal("0"), timedelta(0)]}
    assert items_of(value) == ["deep", "0", "0", "0:00:00", "x", "2.5"]
    assert text_of(value) == "deep, 0, 0, 0:00:00, x, 2.5"
    assert text_of([None, "", [], {}, True]) == text_of(None) == ""


@pytest.mark.parametrize("digits", [309, 1024])
def test_an_id_of_as_many_digits_as_bytes_is_taken_as_a_number_and_as_text(digits: int) -> None:
    assert check_id(10 ** (digits - 1)) == check_id("1" + "0" * (digits - 1))


@pytest.mark.parametrize("digits", [1025, 1300, 5000])
def test_a_longer_id_is_refused_as_a_number_and_as_text(digits: int) -> None:
    for value in (10 ** (digits - 1), "1" + "0" * (digits - 1)):
        with pytest.raises(InvalidRecord, match=rf"1024 bytes at most, this .* {digits}\b"):
            check_id(value)


def test_whose_records_are_read_is_named() -> None:
    assert check_tenants(["b", 1, "b", ""]) == ("", "1", "b")
    assert (check_tenants("ab"), check_tenants(ALL_TENANTS), check_tenants(())) == (("ab",), None, ())
    for wrong in (None, ["a", None], b"ab", bytearray(b"ab"), {"a": 1}, AllTenants, True, 1.5, ["a", ALL_TENANTS]):
        with pytest.raises(InvalidInput, match="tenant"):
            check_tenants(wrong)


def test_what_is_no_tenant_of_a_record_is_refused() -> None:
    wrongs: list[object] = [ALL_TENANTS, 10**5000, "a" * 256, "a\0", "\ud800", [], b"a", False, 1.5]
    for wrong in wrongs:
        with pytest.raises(InvalidRecord, match=r"tenant|surrogate"):
            check_tenant(wrong)
