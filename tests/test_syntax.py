"""The parser of a query's operators; anything else is plain text."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kameleon.search.syntax import MAX_OPERATORS, MAX_QUERY, Asked, parse

TYPED = st.text(st.sampled_from('ab é文\u093f1"“”-*: \n\0_.!()') | st.characters(), max_size=60)


def test_each_operator_is_parsed() -> None:
    query = parse('the “exact phrase” -not -"at all" refu* status:open by:"Ann Lee"', ["status", "by"])
    assert query.text.split() == ["the", "exact", "phrase", "refu", "open", "Ann", "Lee"]
    assert (query.phrases, query.excluded) == (("exact phrase",), ("not", "at all"))
    assert (query.prefixes, query.fields) == (("refu",), (("status", "open"), ("by", "Ann Lee")))


@pytest.mark.parametrize(
    "text",
    [
        *(
            '"open',
            'a 5" pipe and a 3" one',
            '""',
            '"..."',
            "foo-bar",
            "-5 degrees",
            "--help",
            "- fox",
            "a*b",
            "x*",
            "*",
        ),
        *("http://a.b", "10:30", "colour:red", 'colour:"dark red"', "status:", "fox AND bear", "NEAR(", "don't", "C++"),
        *("order #12345", "a:b", "\0", "🦊", "", "  two  spaces ", "5*", "-", "(-fox)", '"' + "x" * 1_001 + '"'),
    ],
)
def test_what_is_no_operator_is_plain_text(text: str) -> None:
    assert parse(text, ["status"]) == Asked(text)


@pytest.mark.parametrize("text", ["-fox", '-"red fox" ...', "-fox -bear \n"])
def test_exclusions_alone_leave_nothing_to_rank(text: str) -> None:
    assert parse(text).text == ""


@pytest.mark.parametrize(
    "text",
    [
        *("tar -xzf archive", "gcc -Wall error: unused variable", "find . -name foo -type f", "git commit -m message"),
        *("ls -la", "C++ -O2", "gcc -std=c++11", "mvn install -DskipTests", "java -Xmx512m", "docker run -it ubuntu"),
        *(
            "kubectl -n prod get pods",
            "hill -fox -bear lake",
            "re: invoice",
            "https://example.com/a",
            "at 10:30",
            "*.py",
        ),
        *("*.py", "/var/log/*", "SELECT * FROM t", "**bold**", "-POL-358", "see http://a.b/c"),
    ],
)
def test_what_people_paste_is_plain_text(text: str) -> None:
    assert parse(text, ["http", "https"]) == Asked(text)


@pytest.mark.parametrize(
    ("text", "rest", "excluded"),
    [
        ("jaguar -car", "jaguar", ("car",)),
        ("-car jaguar", "jaguar", ("car",)),
        ("fast jaguar -car -cat", "fast jaguar", ("car", "cat")),
        ("jaguar -wi-fi", "jaguar", ("wi-fi",)),
        ("written -C++ -c#", "written", ("C++", "c#")),
        ("東京 -京都", "東京", ("京都",)),
        ('jaguar -car "big cat"', "jaguar big cat", ("car",)),
        ('tar -xzf -"an archive" file', "tar -xzf file", ("an archive",)),
        ("jaguar -car status:open", "jaguar open", ("car",)),
    ],
)
def test_words_are_excluded_before_or_after_all_others(text: str, rest: str, excluded: tuple[str, ...]) -> None:
    asked = parse(text, ["status"])
    assert (asked.text.split(), asked.excluded) == (rest.split(), excluded)


@pytest.mark.parametrize("prefix", ["9030", "SPZ00", "POL-35", "tele", "zür", "App.ja", "#12", "東京", "h2"])
def test_codes_are_completed_too(prefix: str) -> None:
    assert parse(f"the {prefix}*").prefixes == (prefix,)


def test_a_query_of_a_book_s_length_is_plain() -> None:
    text = '"fox" ' + "x" * MAX_QUERY
    assert parse(text) == Asked(text)


def test_only_so_many_operators_count() -> None:
    query = parse("".join(f'"a{n}"' for n in range(100)))
    assert len(query.phrases) == MAX_OPERATORS
    assert query.text.count('"') == 2 * (100 - MAX_OPERATORS)


@given(TYPED)
@example('"“')
def test_any_string_parses_and_what_is_left_is_of_the_string(text: str) -> None:
    query = parse(text, ["a", "b"])
    for part in (*query.phrases, *query.excluded, *query.prefixes, *(word for _, word in query.fields)):
        assert part in text
        assert any(character.isalnum() for character in part)
    if query == Asked(query.text):
        assert query.text == text


@given(st.text(st.characters(exclude_characters='-*:"“”')))
def test_a_text_without_operators_stays_as_it_is(text: str) -> None:
    assert parse(text, ["a"]) == Asked(text)


@given(st.text(st.characters(categories=["L", "N", "Zs"]), min_size=1, max_size=20).filter(lambda t: t.strip()))
def test_quoted_text_is_a_phrase(words: str) -> None:
    assert parse(f'x "{words}" y') == Asked(f"x {words} y", phrases=(words,))


def test_a_text_of_many_words_is_read_as_text() -> None:
    text = 'He said "wait a moment" -not "now"' + " word" * 14
    assert parse(text) == Asked(text)
    assert parse(text.removesuffix(" word")).phrases == ("wait a moment", "now")
    assert parse('"' + "a phrase of many words " * 9 + '"').phrases


@pytest.mark.parametrize("pair", ['""', "“”", '-""', '"-"'])
def test_a_query_of_quotes_is_read_once(pair: str) -> None:
    quotes = pair * (MAX_QUERY // len(pair) - 10)
    assert parse(quotes) == Asked(quotes)
    assert parse(f"{quotes} jaguar -car") == Asked(f"{quotes} jaguar ", excluded=("car",))
