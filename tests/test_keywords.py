"""The keyword index: exact whatever is in the tail, in segments or dead, on both databases."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from kameleon.keywords.cache import SegmentCache
from kameleon.keywords.dialect import Partition, Partitions
from kameleon.keywords.folding import Limits
from kameleon.keywords.packing import (
    Document,
    Words,
    hash_of,
    join_counts,
    pack,
    pack_counts,
    unpack_counts,
    unpack_places,
)
from kameleon.keywords.parts import Head, Part, Posting
from kameleon.keywords.reading import read
from kameleon.keywords.scoring import Clause, Placed, holding, holding_phrase, score
from kameleon.keywords.segments import merged_words, of_documents, of_tail
from kameleon.keywords.vocabulary import Vocabulary
from kameleon.keywords.writing import append

from .keyword_index import NOTES, Index, Terms, analysed, assert_exact, best, having_phrase

SMALL = Limits(fold_from=5, pack_from=3, most_segments=3)
WORDS = ["fox", "foxes", "red", "reds", "blue", "whale", "whales", "a", "über", "日本", "x1"]
QUERIES = ["fox", "red fox", "a blue whale fox", "fox fox red", "nonsense", "über 日本 x1 a"]


@pytest.fixture(params=["sqlite", "sqlite-plain", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def index(engine: Engine) -> Index:
    made = Index(engine, SMALL)
    made.dialect.fold_rows, made.dialect.step_rows = 7, 6
    return made


def text_of(chance: random.Random, most: int = 12) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(0, most)))


@given(st.lists(st.integers(1, 70_000), max_size=50))
def test_counts_are_what_was_packed(counts: list[int]) -> None:
    packed = pack_counts(counts)
    unpacked = unpack_counts(packed, len(counts))
    assert (counts if unpacked is not None else [1] * len(counts)) == counts
    assert unpacked is None or unpacked.tolist() == counts
    assert len(packed) <= len(counts) + 4 * sum(count >= 255 for count in counts)
    assert join_counts([packed, packed], [len(counts)] * 2).tolist() == counts * 2


def test_a_tail_row_has_an_entry_for_each_way_a_term_is_written() -> None:
    row = pack(Document(7, analysed("Foxes fox foxes red"), analysed("fox")))
    assert row.doc == 7
    assert row.length == 5
    assert row.words == b"foxe\tfoxes\nfox\nred"
    assert row.hashes == hash_of("foxe") + hash_of("fox") + hash_of("red")
    assert row.counts == bytes([2, 2, 1])
    assert unpack_places(row.places, 5).tolist() == [1, 3, 2, 0, 4]


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=20), min_size=1, max_size=20))
def test_a_segment_of_tail_rows_is_that_of_their_documents(texts: list[list[str]]) -> None:
    documents = [Document(n + 5, analysed(" ".join(words))) for n, words in enumerate(texts)]
    one, other = of_documents(documents), of_tail([pack(document) for document in reversed(documents)])
    rows = [[(*row[:2], *row[3:5], sorted(row[5])) for row in segment.rows()] for segment in (one, other)]
    assert rows[0] == rows[1]
    assert one.docs.tolist() == other.docs.tolist()
    assert one.words.lines() == other.words.lines()


def test_words_are_found_by_how_they_begin_and_end() -> None:
    lines = [("red", 3), ("reddish", 1), ("ready", 2), ("fox\tfoxes", 4), ("fox", 1), ("fred", 1), ("über\tübers", 2)]
    words = Words.unpack([Words.of(lines).pack()])
    assert words.beginning("red") == [("red", 3), ("reddish", 1)]
    assert words.beginning("fox") == [("fox", 1), ("fox\tfoxes", 4)]
    assert words.beginning("foxe") == words.ending("es") == [("fox\tfoxes", 4)]
    assert words.beginning("übers") == words.ending("bers") == [("über\tübers", 2)]
    assert words.beginning("x") == words.ending("über") == []
    assert words.ending("red") == [("fred", 1), ("red", 3)]
    assert words.ending("fox") == [("fox", 1)]
    assert words.lines() == sorted(lines)
    assert words.of_terms("fox") == [("fox", 1), ("fox\tfoxes", 4)]
    assert words.of_terms("foxe") == []
    assert words.between("", "fox") == [("fox", 1), ("fox\tfoxes", 4)]
    assert words.between("fox", "red") == [("fred", 1), ("ready", 2), ("red", 3)]
    assert words.between("fre", "fre") == words.between("über", None) == []
    merged = merged_words([*lines, ("red", 2), ("blue", 1)], ["red", "blue", "fox"])
    assert merged.lines() == [("blue", 1), ("fox", 1), ("fox\tfoxes", 4), ("red", 5)]
    assert Words.unpack([Words.of([]).pack()]).lines() == []


@given(st.integers(0, 2**32), st.integers(1, 300), st.sampled_from([0, 100, 20_000]))
@settings(max_examples=60, deadline=None)
def test_the_best_are_the_first_of_all(seed: int, limit: int, records: int) -> None:
    chance = np.random.default_rng(seed)
    docs = np.cumsum(chance.integers(1, 5, records)) if records else np.empty(0, "i8")
    having = np.flatnonzero(chance.random(records) < chance.random())
    posting = Posting(having, chance.integers(1, 4, len(having)).astype("u1"))
    part = Part(Head.of("Note", docs, chance.integers(1, 9, records)), None, {"a": posting})
    ranking = score([part], [Clause(("a",))])
    every = sorted(zip((-ranking.scores).tolist(), docs.tolist(), strict=True))
    assert ranking.best(limit) == [(doc, -less) for less, doc in every if less][:limit]
    assert ranking.of(docs[::-1]).tolist() == ranking.scores[::-1].tolist()


def test_a_cache_stays_within_its_budget() -> None:
    cache = SegmentCache(2_000)
    for number in range(20):
        cache.put(number, number, 200)
        assert cache.size <= 2_000
        assert cache.get(number) == number
    assert [number for number in range(20) if cache.get(number) is not None] == [16, 17, 18, 19]
    cache.put("large", 1, 5_000)
    assert cache.get("large") is None


def test_records_are_found_in_the_tail_in_segments_and_in_both(index: Index) -> None:
    chance = random.Random(1)
    for _ in range(6):
        with index.engine.begin() as connection:
            for _ in range(9):
                index.put(connection, str(chance.randrange(20)), text_of(chance))
            index.delete(connection, str(chance.randrange(20)))
            assert_exact(index, connection, QUERIES)
        index.maintenance.run(NOTES)
        with index.engine.begin() as connection:
            assert_exact(index, connection, QUERIES)
            assert index.rows(connection, "kdb_tail") < 5
    with index.engine.begin() as connection:
        index.put(connection, "3", "red fox")
    assert index.maintenance.run(NOTES, purges=True) > 0
    with index.engine.begin() as connection:
        assert_exact(index, connection, QUERIES)
        assert index.rows(connection, "kdb_dead") == 0
        assert index.rows(connection, "kdb_tail") < 5


def test_a_purge_leaves_a_small_tail_and_takes_dead_documents_out_of_it(index: Index) -> None:
    others = Partition("t1", "Note")
    with index.engine.begin() as connection:
        for n in range(3):
            index.put(connection, str(n), "red fox")
        index.put(connection, "1", "blue whale", others)
        index.delete(connection, "1")
    with index.engine.begin() as connection:
        assert index.maintenance.due(connection) == []
        assert index.maintenance.due(connection, purges=True) == [NOTES]
    assert index.maintenance.run(NOTES, purges=True) == 1
    with index.engine.begin() as connection:
        tables = ("kdb_tail", "kdb_dead", "kdb_segment", "kdb_posting")
        assert [index.rows(connection, table) for table in tables] == [3, 0, 0, 0]
        assert_exact(index, connection, QUERIES)
        assert index.maintenance.due(connection, purges=True) == []


def test_partitions_are_due_where_a_step_would_do_something(index: Index) -> None:
    partitions = [Partition(f"t{n}", "Note") for n in range(4)]
    with index.engine.begin() as connection:
        for partition, records in zip(partitions, (4, 5, 600, 2), strict=True):
            index.put_many(connection, {str(n): "red fox" for n in range(records)}, partition)
        assert index.maintenance.due(connection) == [partitions[1]]
        for n in range(61):
            index.delete(connection, str(n), partitions[2])
        for n in range(2):
            index.delete(connection, str(n), partitions[3])
        assert index.maintenance.due(connection) == [partitions[1], partitions[2]]
    for partition in partitions[1:3]:
        assert index.maintenance.run(partition) > 0
    with index.engine.begin() as connection:
        assert index.maintenance.due(connection) == []


def test_many_records_of_one_transaction_are_a_segment_at_once(index: Index) -> None:
    chance = random.Random(2)
    with index.engine.begin() as connection:
        index.put_many(connection, {str(n): text_of(chance) for n in range(600)})
        assert index.rows(connection, "kdb_tail") == 0
        index.put(connection, "7", "red fox")
        assert_exact(index, connection, QUERIES)
        connection.rollback()
    with index.engine.begin() as connection:
        assert index.best(connection, "fox") == []
        index.put_many(connection, {str(n): text_of(chance) for n in range(700)})
        assert_exact(index, connection, QUERIES)


def test_phrases_are_words_that_follow_each_other(index: Index) -> None:
    chance = random.Random(3)
    phrases = ["red fox", "fox", "a a", "blue whale a", "whale nonsense"]
    for _ in range(3):
        with index.engine.begin() as connection:
            for _ in range(15):
                index.put(connection, str(chance.randrange(40)), text_of(chance, 30))
            contents = index.contents(connection)
            assert index.best(connection, " ".join(phrases))
            found = {phrase: index.phrase(connection, phrase) for phrase in phrases}
            assert found == {phrase: having_phrase(contents, phrase) for phrase in phrases}
            assert found["red fox"]
        index.maintenance.run(NOTES)


def test_emphasis_counts_again_and_is_in_no_phrase(index: Index) -> None:
    with index.engine.begin() as connection:
        plain = index.put(connection, "1", "a red fox here")
        twice = index.put(connection, "2", "fox ran past red", again="red fox")
        for _ in range(2):
            assert index.phrase(connection, "red fox") == [plain]
            (first, _), (second, _) = index.best(connection, "fox")
            assert (first, second) == (twice, plain)


def test_partitions_have_their_own_statistics(index: Index) -> None:
    others = Partition("", "Other")
    with index.engine.begin() as connection:
        for n in range(8):
            index.put(connection, str(n), "red fox" if n else "blue fox")
            index.put(connection, str(n), "blue whale", others)
        assert_exact(index, connection, QUERIES)
        assert_exact(index, connection, QUERIES, [others])
        assert_exact(index, connection, QUERIES, [NOTES, others])
        assert index.vocabulary(connection).frequencies(["blue", "whale"]) == {"blue": 1}
    assert index.maintenance.run(others) > 0
    with index.engine.begin() as connection:
        assert_exact(index, connection, QUERIES, [NOTES, others])
        assert index.maintenance.due(connection) == [NOTES]


def test_tenants_have_their_own_statistics(index: Index) -> None:
    chance = random.Random(5)
    partitions = [Partition(tenant, entity) for tenant in ("", "t1", "t2") for entity in ("Note", "Other")]
    for folds in (False, True):
        with index.engine.begin() as connection:
            for n in range(12 if folds else 6):
                for partition in partitions:
                    index.put(connection, str(n), text_of(chance), partition)
        for partition in partitions if folds else ():
            assert index.maintenance.run(partition) > 0
        with index.engine.begin() as connection:
            index.put(connection, "3", "red fox", partitions[2])
            for partition in partitions:
                assert_exact(index, connection, QUERIES, [partition])
            assert_exact(index, connection, QUERIES, partitions[2:])
            assert_exact(index, connection, QUERIES, [partitions[0], partitions[4]])


def test_all_partitions_are_read_where_no_tenant_and_no_entity_is_named(index: Index) -> None:
    every = [Partition(tenant, entity) for tenant in ("", "t1", "t2") for entity in ("Note", "Other")]
    with index.engine.begin() as connection:
        docs = {partition: index.put(connection, "1", "red fox", partition) for partition in every}
        for n in range(8):
            index.put(connection, f"more {n}", "red whale", every[4])
    index.maintenance.run(every[4])
    with index.engine.begin() as connection:
        for _ in range(2):
            for tenants in (None, ("", "t1"), ("t2",), ()):
                for entities in ((), ("Note",)):
                    named = Partitions(tenants, entities)
                    found = read(connection, index.dialect, index.cache, named, ["fox"])
                    having = score(found.parts, [Clause(("fox",))]).best(10)
                    assert sorted(doc for doc, _ in having) == [
                        doc
                        for (tenant, entity), doc in docs.items()
                        if (tenants is None or tenant in tenants) and entity in (entities or ("Note", "Other"))
                    ]
        vocabulary = Vocabulary(connection, index.dialect, index.cache, Partitions(("t2", "t1"), ("Note",)))
        assert vocabulary.frequencies(["fox", "whale"]) == {"fox": 2, "whale": 8}


def test_the_vocabulary_is_that_of_records_that_are_there(index: Index) -> None:
    for folds in (False, True):
        with index.engine.begin() as connection:
            index.put(connection, "1", "foxes and a foxglove")
            index.put(connection, "2", "fox, foxgloves")
            index.put(connection, "3", "foxtrot")
        with index.engine.begin() as connection:
            index.delete(connection, "3")
        if folds:
            index.maintenance.run(NOTES, purges=True)
        with index.engine.begin() as connection:
            words = index.vocabulary(connection)
            assert [word.form for word in words.completions("foxg", 5)] == ["foxglove", "foxgloves"]
            found = sorted(word.form for word in words.completions("fox", 5))
            assert found == ["fox", "foxes", "foxglove", "foxgloves"]
            assert sorted(words.terms(["foxg"])[0]) == ["foxglove"]
            assert [word.form for word in words.near("foxgx", "xglove", range(7, 9))] == ["foxglove"]


def test_terms_of_a_prefix_count_as_one(index: Index) -> None:
    with index.engine.begin() as connection:
        docs = [index.put(connection, str(n), words) for n, words in enumerate(["foxglove fox", "red", "foxtrot", "a"])]
        terms, is_all = index.vocabulary(connection).terms(["fox"])
        assert is_all
        ranking = score(index.parts(connection, terms), [Clause(terms)])
        expected = best({doc: ["fox fox", "red", "fox", "a"][n] for n, doc in enumerate(docs)}, "fox")
        found = ranking.best(10)
        assert [doc for doc, _ in found] == [doc for doc, _ in expected] == [docs[0], docs[2]]
        np.testing.assert_allclose([n for _, n in found], [n for _, n in expected], rtol=1e-5)


def test_terms_without_a_form_are_found_and_complete_nothing(index: Index) -> None:
    with index.engine.begin() as connection:
        for n in range(6):
            code = Terms(["pol358", "red"], [0, 1], 2, ["", "reds"])
            append(connection, index.dialect, {NOTES: [Document(n + 1, code)]})
    for _ in range(2):
        with index.engine.begin() as connection:
            words = index.vocabulary(connection)
            assert words.completions("pol", 5) == []
            assert [word.form for word in words.completions("", 5)] == ["reds"]
            assert words.terms(["pol3", "x"]) == (("pol358",), True)
            assert words.frequencies(["pol358", "red"]) == {"pol358": 6, "red": 6}
        index.maintenance.run(NOTES)
    with index.engine.begin() as connection:
        assert index.rows(connection, "kdb_tail") == 0


def test_a_part_of_a_phrase_may_be_one_of_several_terms(index: Index) -> None:
    with index.engine.begin() as connection:
        docs = [
            index.put(connection, str(n), content) for n, content in enumerate(["a red fox", "a blue fox", "a fox red"])
        ]
        phrase = [Placed(("red", "blue"), 0), Placed(("fox",), 1)]
        parts = index.parts(connection, [], ["red", "blue", "fox"])
        ranking = score(parts, [Clause(("fox",))])
        assert sorted(doc for doc, _ in ranking.best(9, holding_phrase(parts, phrase))) == docs[:2]
        assert [doc for doc, _ in ranking.best(9, ~holding(parts, ["red"]))] == docs[1:2]
        assert [doc for doc, _ in ranking.best(9, ranking.mask(np.array([docs[2], 99])))] == docs[2:]
        assert ranking.matches() == 3


def test_the_remembered_tail_is_not_that_of_a_transaction_that_was_rolled_back(index: Index) -> None:
    """A rolled-back document's number is given again where the database issues numbers in transactions."""
    for entry in ("fox", "whale"):
        with index.engine.connect() as connection:
            transaction = connection.begin()
            connection.execute(text("INSERT INTO record VALUES ('', 'Note', '1', 1, :c)"), {"c": entry})
            append(connection, index.dialect, {NOTES: [Document(1, analysed(entry))]})
            for _ in range(2):
                assert [doc for doc, _ in index.best(connection, entry)] == [1]
                assert [word.form for word in index.vocabulary(connection).completions(entry[:2], 5)] == [entry]
            assert index.best(connection, "whale" if entry == "fox" else "fox") == []
            transaction.rollback()
    with index.engine.begin() as connection:
        assert index.best(connection, "fox") == index.best(connection, "whale") == []


def test_a_text_without_terms_is_a_record(index: Index) -> None:
    with index.engine.begin() as connection:
        for n in range(6):
            index.put(connection, str(n), "" if n < 5 else "fox")
    assert index.maintenance.run(NOTES) > 0
    with index.engine.begin() as connection:
        assert_exact(index, connection, QUERIES)


def test_long_documents_keep_their_counts_and_places(index: Index) -> None:
    with index.engine.begin() as connection:
        index.put(connection, "1", "fox " * 70_000 + "red whale")
        for n in range(5):
            index.put(connection, f"n{n}", "red fox " * (150 * n) + "red whale")
        for _ in range(2):
            contents = index.contents(connection)
            assert index.phrase(connection, "fox red whale") == having_phrase(contents, "fox red whale")
            assert_exact(index, connection, QUERIES)
    index.maintenance.run(NOTES)
    with index.engine.begin() as connection:
        assert index.rows(connection, "kdb_tail") == 0
        contents = index.contents(connection)
        assert index.phrase(connection, "fox red whale") == having_phrase(contents, "fox red whale")
        assert_exact(index, connection, QUERIES)


def test_a_weightless_terms_object_is_enough() -> None:
    segment = of_documents([Document(1, Terms(["b", "a"], [0, 5], 2, ()))])
    assert [(term, form, places) for term, _, form, _, _, places in segment.rows()] == [
        ("a", "", b"\6"),
        ("b", "", b"\1"),
    ]
