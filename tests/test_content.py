"""A record's text: rendering of fields, normalisation, and its hash."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kameleon.content import (
    FULL,
    PLAIN,
    Content,
    Extent,
    Field,
    check_id,
    check_tenant,
    check_tenants,
    compose,
    content_hash,
    field_options,
    items_of,
    join,
    layout_as_text,
    layout_of_text,
    normalize,
)
from kameleon.errors import InvalidInput, InvalidRecord
from kameleon.markup import strip_html
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
    assert items_of([float("-inf"), 1e16]) == ["-inf", "10000000000000000"]


def test_fields_are_joined_in_their_order() -> None:
    values = ["Name", "text", ["a", "b"], "", None, 3, True]
    content = compose([(items_of(value), PLAIN) for value in values])
    assert content == Content("Name\ntext\na, b\n3", gaps=(5, 10, 13, 15))
    assert compose([(items_of({"name": "Ann", "town": "Oslo"}), PLAIN)]) == Content("Ann, Oslo", gaps=(5,))
    assert compose([([], PLAIN)]) == compose([]) == Content("")


def test_a_leg_has_the_fields_that_are_for_it() -> None:
    fields = field_options({"code": Field(index="keyword"), "title": Field(weight=2), "notes": Field(index="vector")})
    content = compose([([name], field) for name, field in fields.items()])
    assert content == Content("notes\ntitle\ncode", "title", (6, 12), extent=Extent(6, 11))
    assert (content.text[6:], content.embedded) == ("title\ncode", "notes\ntitle")
    keyword, both, vector = fields.values()
    for texts, kept in (
        ([(["a"], keyword)], ("a", "")),
        ([(["a"], vector)], ("", "a")),
        ([(["a"], keyword), (["b"], vector)], ("a", "b")),
        ([(["a"], keyword), ([" "], vector)], ("a", "")),
        ([(["a"], both), ([], vector), ([], keyword)], ("a", "a")),
    ):
        content = compose(texts)
        assert (content.text[content.extent.keywords_from :], content.embedded) == kept
    assert compose([(["a"], both)]).extent == FULL


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Field(index="all"), "index is vector, both, keyword, not 'all'"),  # type: ignore[arg-type]
        (lambda: Field(weight=2, index="vector"), "weight counts for keywords"),
        (lambda: Field(html="yes"), "html is True or False"),  # type: ignore[arg-type]
        (lambda: field_options({"title": 11}), "the weight of 'title' is a whole number from 1 to 10, not 11"),
    ],
)
def test_options_of_a_field_that_cannot_be_are_refused(made: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        made()


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("plain a < b & c", "plain a < b & c"),
        ("<p>One</p><p>Two<br>three</p>", "One\nTwo\nthree"),
        ("<td>a</td><td>b</td>", "a\nb"),
        ("<b>wa</b>ter is <em>cold</em>", "water is cold"),
        ("AT&amp;T &#39;quoted&#x27; caf&eacute;&nbsp;bar &unknown;", "AT&T 'quoted' café bar &unknown;"),
        ("a<script>var b = '<p>no</p>';</script>c<style>p {}</style>d", "a\nc\nd"),
        ("a<!-- hidden <p>text</p> -->b", "ab"),
        ("<p class='x' title=\"a > b\">in", "in"),
        ("a <script>never closed", "a"),
        ("line\none <i>two</i>\n\n three", "line one two three"),
        ("<<p>>", "<\n>"),
    ],
)
def test_html_is_stripped_to_its_text(html: str, text: str) -> None:
    assert strip_html(html) == text


@given(st.text(alphabet="<>/!-&;#apscriptbr= \"'\n", max_size=60))
def test_any_text_can_be_stripped(text: str) -> None:
    assert isinstance(strip_html(text), str)


@given(st.lists(st.lists(st.text(min_size=1, max_size=4), max_size=4), max_size=4))
def test_gaps_are_where_another_item_begins(fields: list[list[str]]) -> None:
    text, _, gaps, *_ = join(fields)
    items = [item for field in fields for item in field]
    assert [text[start:][: len(item)] for start, item in zip((0, *gaps), items, strict=False)] == items
    assert text == "\n".join(", ".join(field) for field in fields if field)
    assert layout_of_text(layout_as_text(gaps)) == (gaps, FULL)
    assert layout_of_text(layout_as_text(gaps, Extent(3, 7))) == (gaps, Extent(3, 7))


def test_the_texts_in_a_value_are_its_items() -> None:
    value = {"b": ["x", "", None, True, {"c": 2.5}], "a": [["deep"], 0, Decimal("0"), timedelta(0)]}
    assert items_of(value) == ["deep", "0", "0", "0:00:00", "x", "2.5"]
    assert items_of([None, "", [], {}, True]) == items_of(None) == []


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
