"""What texts and queries are read as: words, codes, scripts, places, and every character of Unicode."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from unicodedata import category, normalize

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kameleon.analysis.analyser import GAP_WIDTH, Analyser, analyser, languages
from kameleon.analysis.characters import Characters, Folding, Places
from kameleon.analysis.reading import MAX_TERM_BYTES, Memo
from kameleon.content import join
from kameleon.errors import InvalidInput

MIXED = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from(
            "ab cAé.-'’/_#+@&:,19 ²½\u00ad\u200d\u0301\u0308文京กข้าวダ゙ﾊﾞ가각דּ\"\u0651ﷺİı ß👍🏽🇩🇪\n\u2029\u05f4\u0130"
        ),
    ),
    max_size=40,
)


def english(text: str) -> list[str]:
    return list(analyser().terms(text).terms)


def is_found(query: str, text: str, language: str = "english") -> bool:
    """Whether the text has any term of the query."""
    read = analyser(language)
    held = set(read.terms(text).terms)
    return any(term in held for word in read.query_terms(query) for term in word.terms)


def has_whole(query: str, text: str, language: str = "english") -> bool:
    """Whether the text has each word of the query as a whole."""
    read = analyser(language)
    held = set(read.terms(text).terms)
    asked = read.query_terms(query)
    return bool(asked) and all(held & set(word.whole) if word.whole else held.issuperset(word.parts) for word in asked)


def has_phrase(phrase: str, text: str, language: str = "english", gaps: Sequence[int] = ()) -> bool:
    read = analyser(language)
    found = read.terms(text, gaps)
    at = set(zip(found.terms, found.positions, strict=True))
    return any(
        all(any((term, start + part.position) in at for term in part.terms) for part in way)
        for way in read.phrases(phrase)
        for start in set(found.positions)
    )


def marked(text: str, query: str, language: str = "english") -> str:
    read = analyser(language)
    for start, end in reversed(read.marks(text, read.query_terms(query))):
        text = f"{text[:start]}[{text[start:end]}]{text[end:]}"
    return text


# words


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("telephone", "Le téléphone sonne"),
        ("téléphone", "LE TELEPHONE"),
        ("zurich", "à Zürich"),
        ("istanbul", "İstanbul hotel"),
        ("diyarbakir", "Diyarbakır"),
        ("lodz", "miasto Łódź"),
        ("zolty", "żółty rower"),
        ("oland", "Øland"),
        ("strasse", "Große Straße"),
        ("STRASSE", "Große Straẞe"),
        ("da", "Đà Nẵng beach"),
        ("thingvellir", "Þingvellir"),
        ("oeuvre", "l'œuvre"),
        ("H2O", "CO₂ and H₂O levels"),
        ("CO2", "CO₂ and H₂O levels"),
        ("file", "the ﬁle"),
        ("ABC", "ＡＢＣ"),
        ("kg", "㎏"),
        ("2019", "٢٠١٩"),
        ("Gesamtkonzept", "Das Ge\u00adsamt\u00adkon\u00adzept"),
        ("wordjoiner", "word\u2060joiner"),
        ("zerowidth", "zero\u200bwidth"),
        ("m'яч".replace("m", "м"), "м\u02bcяч на полі"),
        ("м’яч", "м'яч на полі"),
        ("Hawai'i", "Hawai\u02bbi island"),
        ("don't", "they don\u2019t"),
        ("don`t worry", "they don\u2019t worry"),
        ("John", "John’s house"),
        ("ΟΔΟΣ", "οδός"),
        ("σίσυφος", "ΣΙΣΥΦΟΣ"),
        ("елка", "ёлка"),
        ("чита\u0301ть", "читать"),
        ("محمد", "مُحَمَّد"),
        ("كتاب", "كتــاب"),
        ("احمد", "أحمد"),
        ("فارسي", "فارسی"),
        ("שלום", "שָׁלוֹם"),
        ("צהל", 'צה"ל'),
        ("צה״ל", 'צה"ל'),
        ("फिल्म", "फ़िल्म"),
        ("❤", "I ❤️ it"),
        ("👍", "good👍🏽work"),
        ("🇩🇪", "in 🇩🇪🇫🇷"),
        ("5km", "5㎞"),
    ],
)
def test_forms_that_readers_take_for_one_are_found(query: str, text: str) -> None:
    assert has_whole(query, text)
    assert has_whole(text.split()[-1], text)


@pytest.mark.parametrize(
    ("query", "text", "language"),
    [
        ("и", "й", "russian"),
        ("і", "ї", "russian"),
        ("har", "här", "swedish"),
        ("ano", "año", "spanish"),
        ("ISPARTA", "İSPARTA", "turkish"),
        ("हिंदि", "हंद", "hindi"),
        ("か", "が", "simple"),
        ("102", "10²", "english"),
        ("512", "5½", "english"),
    ],
)
def test_marks_that_make_another_letter_are_kept(query: str, text: str, language: str) -> None:
    assert not is_found(query, text, language)
    assert has_whole(text, text, language)


@pytest.mark.parametrize(
    ("language", "query", "text"),
    [
        ("turkish", "ısparta", "ISPARTA"),
        ("turkish", "istanbul", "İSTANBUL"),
        ("french", "avion", "l’avion"),
        ("french", "telephone", "Les téléphones"),
        ("german", "Häuser", "das Haus der HÄUSER"),
        ("german", "muller", "Müller"),
        ("spanish", "canciones", "la canción"),
        ("russian", "книги", "книга"),
        ("catalan", "collega", "col·lega"),
        ("finnish", "taloissa", "talo"),
        ("simple", "Running", "running"),
        ("english", "invoices", "Invoice"),
    ],
)
def test_each_language_has_its_stems_and_letters(language: str, query: str, text: str) -> None:
    assert has_whole(query, text, language)


def test_simple_has_neither_stems_nor_stop_words() -> None:
    assert not is_found("running", "run", "simple")
    assert [word.surface for word in analyser("simple").query_terms("the runs")] == ["the", "runs"]


def test_stop_words_are_left_out_of_queries_that_have_others() -> None:
    assert [word.surface for word in analyser().query_terms("What is the time, don't you know?")] == ["time", "know"]
    assert [word.surface for word in analyser().query_terms("the who")] == ["the", "who"]
    assert [word.surface for word in analyser("german").query_terms("das Haus")] == ["haus"]
    assert english("the who") == ["the", "who"]


def test_elided_words_are_words_of_their_own() -> None:
    assert list(analyser("french").terms("qu’il aime l'avion d’Ève").terms) == [
        "qu",
        "il",
        "aim",
        "l",
        "avion",
        "d",
        "eve",
    ]
    assert [word.terms for word in analyser("french").query_terms("l'avion où")] == [("avion", "=avion")]
    assert "=lavion" in english("l'avion")


def test_threads_share_an_analyser() -> None:
    read, texts = Analyser(), [f"running words{n} happily Wi-Fi{n} éclairs" for n in range(500)]
    expected = [Analyser().terms(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert all(found == expected for found in pool.map(lambda _: [read.terms(text) for text in texts], range(16)))


def test_what_is_remembered_is_bounded() -> None:
    memo = Memo(str.upper, 10)
    assert [memo[f"a{n % 7}"] for n in range(100)] == [f"A{n % 7}" for n in range(100)]
    assert memo["long" * 100] == "LONG" * 100
    assert len(memo) <= 5


def test_snowball_keeps_news_apart_from_new() -> None:
    assert not is_found("news", "new new new product")


def test_every_language_reads_and_an_unknown_one_is_refused() -> None:
    assert len(languages()) >= 30
    for language in languages():
        assert analyser(language).terms("alpha").length == 1
    with pytest.raises(InvalidInput, match=r"unknown language 'klingon'.*english.*simple"):
        Analyser("klingon")


# codes

CODES = [
    ("POL-358-A", ["POL-358-A", "POL-358", "358-A", "POL", "358", "POL_358_A", "pol358a"]),
    ("src/App.java", ["src/App.java", "App.java", "src", "App", "java", "appjava"]),
    ("www.example.com/docs", ["www.example.com", "example.com", "example.com/docs", "example"]),
    ("v1.2.3", ["1.2.3", "v1.2.3", "1.2", "2.3"]),
    ("C++", ["C++", "c++"]),
    ("#12345", ["#12345", "12345"]),
    (".NET", [".net", "NET"]),
    ("ASP.NET", ["asp.net", "NET"]),
    ("AT&T", ["AT&T", "att"]),
    ("500GB", ["500GB", "500 GB", "500 gb", "500"]),
    ("500 GB", ["500GB", "500 GB", "gb"]),
    ("1.5 GB", ["1.5GB", "1.5"]),
    ("20 °C", ["20°C"]),
    ("+1-555-123-4567", ["555-123-4567", "15551234567", "123-4567"]),
    ("555-1234", ["5551234"]),
    ("1,000", ["1000", "1,000"]),
    ("1.000.000", ["1000000"]),
    ("11.83", ["11.83"]),
    ("12:30", ["12:30"]),
    ("Wi-Fi", ["wifi", "wi-fi", "WiFi"]),
    ("wifi", ["Wi-Fi", "wi‑fi"]),
    ("O'Brien's", ["obrien", "O’Brien", "brien"]),
    ("Node.js", ["nodejs", "node.js"]),
    ("nodejs", ["Node.js"]),
    ("e-mails", ["email", "e-mail", "mails"]),
    ("U.S.A.", ["USA", "u.s.a"]),
    ("ERR_CONN_RESET", ["err_conn_reset", "conn", "CONN_RESET"]),
    ("jane.roe@example.org", ["example.org", "jane.roe", "jane.roe@example.org"]),
    ("std::vector", ["std::vector", "vector"]),
    ("SPZ007", ["SPZ007", "spz-007", "007"]),
    ("2019–2020", ["2019", "2020", "2019-2020"]),
    ("COVID-19", ["covid19", "covid"]),
    ("C:\\Users\\jane", ["users", "jane", "Users/jane"]),
    ("(see POL-358.)", ["POL-358"]),
    ("état—major", ["etat", "major"]),
]


@pytest.mark.parametrize(("text", "queries"), CODES)
def test_codes_are_found_by_parts_runs_and_other_spellings(text: str, queries: list[str]) -> None:
    assert queries
    for query in queries:
        assert has_whole(query, f"see {text} here"), query


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("1183", "11.83"),
        ("1230", "12:30"),
        ("123", "1.2.3"),
        ("19216811", "192.168.1.1"),
        ("cplusplus", "C++"),
        ("csharp", "C#"),
        ("dotnet", ".NET"),
        ("H2O", "x² + y²"),
        ("shell", "she'll"),
        ("well", "we'll"),
        ("hell", "he’ll"),
        ("102", "10²"),
        ("5123", "51-23"),
        ("srcmain", "src/main"),
        ("12", "1/2"),
        ("andor", "and/or"),
    ],
)
def test_joined_forms_never_meet_ordinary_words_or_other_numbers(query: str, text: str) -> None:
    assert not is_found(query, text)
    assert not is_found(text, query) or has_whole(text, text)


def test_numbers_with_units_give_the_same_terms_with_and_without_the_space() -> None:
    for joined, apart in [
        ("500GB", "500 GB"),
        ("1.5kg,", "1.5 kg,"),
        ("20°C", "20 °C"),
        ("5㎞", "5 km"),
        ("3 m²", "3m²"),
    ]:
        first, second = analyser().terms(joined), analyser().terms(apart)
        assert (first.terms, first.forms) == (second.terms, second.forms), joined
        assert (first.positions, first.length) == (second.positions, second.length), joined
    assert english("at 10 km/h or 5 GB/s, 5 kg") == english("at 10km/h or 5GB/s, 5kg")
    assert [word.whole[0] for word in analyser().query_terms("5 6 GB 7")] == ["5", "6gb", "7"]
    assert analyser().marks("5 6 GB 7", analyser().query_terms("7 6GB")) == [(2, 6), (7, 8)]
    assert english("5 in all") == ["5", "in", "all"]
    assert "12people" not in english("12 people")


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0),
        (" \n", 0),
        ("... — !", 0),
        ("one two", 2),
        ("POL-358-A x", 4),
        ("東京都", 3),
        ("John's", 1),
        ("a" * 9_000, 1),
    ],
)
def test_the_length_counts_words_and_parts(text: str, length: int) -> None:
    assert analyser().terms(text).length == length


def test_a_term_has_at_most_255_bytes() -> None:
    for text in (
        "x" * 5_000,
        "東" * 5,
        "é" * 300,
        "ab-" * 3_000 + "c",
        "/".join(["part"] * 39) + "/" + "y" * 400,
        "9" * 300,
    ):
        terms = english(text)
        assert terms
        assert all(len(term.encode()) <= MAX_TERM_BYTES for term in terms)
        assert set(terms) & {term for word in analyser().query_terms(text) for term in word.terms}
    assert len(english("a-" * 10_000)) < 30_000


# scripts without spaces


@pytest.mark.parametrize(
    ("query", "text", "right"),
    [
        ("東京", "東京都に行く", True),
        ("京都", "東京都に行く", True),
        ("東都", "東京都に行く", False),
        ("都", "東京都に行く", True),
        ("ガンダム", normalize("NFD", "機動戦士ガンダム"), True),
        ("ガンダム", "ｶﾞﾝﾀﾞﾑ", True),
        ("테스트", normalize("NFD", "테스트 문서"), True),
        ("문서", "테스트문서입니다", True),
        ("ข้าวผัด", "ฉันชอบกินข้าวผัดกับเพื่อน", True),
        ("รถไฟ", "รถไฟออกตอนเช้า", True),
        ("ข้าว", "ขาว", False),
        ("ພາສາ", "ຂ້ອຍຮຽນພາສາລາວ", True),
        ("ភាសា", "ខ្ញុំរៀនភាសាខ្មែរ", True),
        ("မြန်မာ", "ကျွန်တော်မြန်မာစာသင်တယ်", True),
        ("手机", "新款iPhone手机壳", True),
        ("iphone", "新款iPhone手机壳", True),
        ("3", "第3章", True),
    ],
)
def test_scripts_without_spaces_are_found_by_neighbours(query: str, text: str, right: bool) -> None:
    assert has_whole(query, text) is right
    assert has_phrase(query, text) is right


# phrases


@pytest.mark.parametrize(
    ("phrase", "text", "right"),
    [
        ("App.java", "see src/main/java/App.java for it", True),
        ("java/App.java", "see src/main/java/App.java for it", True),
        ("example.com", "visit https://www.example.com/docs/page today", True),
        ("example.org", "write to jane.roe@example.org now", True),
        ("POL-358", "POL-358-A was replaced", True),
        ("1.0.21", "fixed in v1.0.21 of the tool", True),
        ("wifi", "Wi-Fi router", True),
        ("new wifi", "the new Wi-Fi", True),
        (".NET core", ".NET Core 8", True),
        ("3.5", "3.50", False),
        ("C++ developer", "a C++ developer", True),
        ("C++ developer", "a C developer", False),
        ("invoices paid", "the invoice was paid", False),
        ("the invoices", "The Invoice was paid", True),
        ("500 GB disk", "500GB disk", True),
        ("", "anything", False),
        ("...", "anything", False),
        ("東京 hotel", "東京 hotel", True),
    ],
)
def test_a_phrase_is_words_one_after_the_other(phrase: str, text: str, right: bool) -> None:
    assert has_phrase(phrase, text) is right


def test_no_phrase_runs_across_a_gap() -> None:
    text, gaps = "red, apple pie\n東京, 都, 5, kg", (5, 15, 19, 22, 25)
    for phrase in ("red apple", "pie 東", "5 kg"):
        assert has_phrase(phrase, text)
        assert not has_phrase(phrase, text, gaps=gaps)
    assert has_phrase("apple pie", text, gaps=gaps)
    assert analyser().terms(text, gaps).length == analyser().terms(text).length == 8
    assert analyser().terms(text, gaps).terms[:3] == ["red", "appl", "pie"]


@given(st.lists(MIXED, max_size=4))
def test_a_gap_is_the_end_of_one_text_and_the_beginning_of_another(items: list[str]) -> None:
    content = join([items])
    found = analyser().terms(content.text, content.gaps)
    texts = [*map(analyser().terms, items)]
    assert found.terms == [term for text in texts for term in text.terms]
    assert found.forms == [form for text in texts for form in text.forms]
    assert found.length == sum(text.length for text in texts)
    starts = [0, *accumulate(text.length + GAP_WIDTH for text in texts)]
    expected = [start + at for start, text in zip(starts, texts, strict=False) for at in text.positions]
    assert list(found.positions) == expected


# prefixes


@pytest.mark.parametrize(
    ("prefix", "text", "right"),
    [
        ("tele", "le téléphone", True),
        ("télé", "le telephone", True),
        ("zur", "Zürich", True),
        ("istan", "İstanbul", True),
        ("9030", "part 9030100", True),
        ("SPZ00", "SPZ007 space", True),
        ("POL-35", "POL-358-A", True),
        ("pol35", "POL-358-A", True),
        ("App.ja", "src/App.java", True),
        ("study", "studies", True),
        ("wif", "Wi-Fi", True),
        ("東京", "東京都", True),
        ("東", "東京都", True),
        ("#12", "#1234", True),
        ("11", "1.1", False),
        ("elep", "telephone", False),
    ],
)
def test_prefixes_are_read_as_words_are(prefix: str, text: str, right: bool) -> None:
    begins = analyser().prefixes(prefix)
    assert begins
    assert any(term.startswith(begin) for term in english(text) for begin in begins) is right


def test_what_is_no_word_begins_none() -> None:
    assert [analyser().prefixes(text) for text in ("", "...", "東京都")] == [[], [], []]


# what matched


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("wifi", "[Wi-Fi] router"),
        ("obrien", "Mr [O'Brien] called"),
        ("C++", "[C++] and vitamin C"),
        ("AT&T", "Q&A of [AT&T]"),
        ("POL-358", "see [POL-358]-A, not 358"),
        ("POL-358-A", "see [POL-358]-B"),
        ("500GB", "was [500 GB] big"),
        ("zurich", "à [Zürich]!"),
        ("Gesamtkonzept", "Das [Ge\u00adsamtkonzept] x"),
        ("file", "the [ﬁles]"),
        ("東京", "[東京]都"),
        ("guards", "the [guard] and the [guards]"),
        ("the guard", "the [guard]"),
        ("cafe", "[cafe\u0301], s'il"),
        ("1/2", "[½] and 12"),
        ("nothing", "else"),
    ],
)
def test_what_matched_is_marked(query: str, expected: str) -> None:
    assert marked(expected.replace("[", "").replace("]", ""), query) == expected


@pytest.mark.parametrize(("query", "texts"), [("Élodie", ["Élodie", "Elodie"]), ("Adams", ["Adams", "Adam"])])
def test_exact_forms_count_above_folded_and_stemmed_ones(query: str, texts: list[str]) -> None:
    asked = analyser().query_terms(query)
    assert [analyser().exactness(text, asked) for text in texts] == [1, 0]


def test_forms_are_words_as_written() -> None:
    read = analyser().terms("Le téléphone de SPZ007, Straße")
    assert list(read.forms) == ["le", "téléphone", "de", "spz", "spz007", "007", "straße"]
    assert len(read.forms) == len(read.terms) == len(read.positions)


# every character


def characters() -> list[str]:
    return [chr(code) for code in range(sys.maxunicode + 1) if category(chr(code)) not in ("Cs", "Cn", "Co")]


@pytest.mark.slow
def test_every_character_alone_gives_what_its_equal_forms_give() -> None:
    read = Analyser()
    seen = characters()
    assert len(seen) > 100_000
    for character in seen:
        terms = read.terms(character).terms
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            assert read.terms(normalize(form, character)).terms == terms, (character, form)


@pytest.mark.slow
def test_every_character_alone_is_folded_once() -> None:
    table, folding = Characters("english"), Folding()
    for character in characters():
        once = table[ord(character)].translate(folding)
        assert "".join(table[ord(part)] for part in once).translate(folding) == once, hex(ord(character))


@pytest.mark.slow
@pytest.mark.parametrize("language", ["english", "turkish"])
def test_places_of_every_character_are_its_own(language: str) -> None:
    read = Analyser(language)
    for character in characters():
        for token in read.tokens(f"x {character} y"):
            assert (token.start, token.end) in ((0, 1), (2, 2 + len(character)), (4, 5)), hex(ord(character))


@given(MIXED)
@example("İ")
@example("5½\u0301")
def test_tokens_are_the_terms_with_places_in_order(text: str) -> None:
    for language in ("english", "german", "turkish"):
        terms, tokens = analyser(language).terms(text), analyser(language).tokens(text)
        assert [token.term for token in tokens] == list(terms.terms)
        assert [token.position for token in tokens] == list(terms.positions)
        assert [token.form for token in tokens] == list(terms.forms)
        assert list(terms.positions) == sorted(terms.positions)
        assert all(0 <= token.start < token.end <= len(text) for token in tokens)
        starts = {token.position: token.start for token in reversed(tokens)}
        assert [starts[position] for position in sorted(starts)] == sorted(starts.values())
        assert all(token.term and not token.term.isspace() for token in tokens)
        assert terms.length == len(set(terms.positions))


@given(MIXED)
def test_canonically_equal_texts_give_equal_terms(text: str) -> None:
    for language in ("english", "french"):
        read = analyser(language)
        assert read.terms(normalize("NFC", text)).terms == read.terms(normalize("NFD", text)).terms


@given(MIXED)
def test_reading_the_same_again_changes_nothing(text: str) -> None:
    fresh = Analyser()
    first = fresh.terms(text)
    assert fresh.terms(text) == first == analyser().terms(text)


@given(MIXED)
def test_normalising_twice_is_normalising_once(text: str) -> None:
    places = Places(Characters("english"))
    once = places.normalise(text)[0]
    assert places.normalise(once)[0] == once


@given(MIXED)
def test_a_text_is_found_by_itself(text: str) -> None:
    read = analyser("simple")
    held = set(read.terms(text).terms)
    for word in read.query_terms(text):
        assert held & set(word.terms), word
        assert held.issuperset(word.whole[:1]), word
    if held:
        assert has_phrase(text, text, "simple")


@given(MIXED)
def test_queries_phrases_prefixes_and_marks_take_any_text(text: str) -> None:
    read = analyser()
    asked = read.query_terms(text)
    assert all(word.terms for word in asked)
    for begin in read.prefixes(text):
        assert begin
    spans = read.marks(text, asked)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


@given(st.text(st.characters() | st.sampled_from("\0\ud800\udfff\u0301👍🏽\u200d文'-")))
@example("\ud800")
@example("\0")
def test_no_string_raises(text: str) -> None:
    for language in ("english", "turkish", "simple"):
        read = analyser(language)
        terms, asked = read.terms(text), read.query_terms(text)
        assert [token.term for token in read.tokens(text)] == list(terms.terms)
        assert all(0 <= start < end <= len(text) for start, end in read.marks(text, asked))
        assert bool(read.phrases(text)) == bool(terms.terms)


@pytest.mark.parametrize("part", ["a", "\u0301", "文", "a-", "1-", "👍🏽", "👩\u200d", "\u200d", "ก\u0e31", "1,", "a "])
def test_a_long_text_of_one_part_is_read_and_marked(part: str) -> None:
    text = part * 20_000
    read = Analyser()
    terms = read.terms(text)
    assert len(terms.terms) <= 2 * len(text)
    assert all(token.end <= len(text) for token in read.tokens(text))
    assert bool(read.marks(text, read.query_terms(text))) == bool(terms.terms)
