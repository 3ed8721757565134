"""The keyword index beside a table of records that plays the part of `kdb_search`, and BM25 without an index."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection, Engine, MetaData, text

from kameleon.keywords.cache import SegmentCache
from kameleon.keywords.dialect import Dialect, Partition, Partitions
from kameleon.keywords.folding import Limits, Maintenance
from kameleon.keywords.packing import Document
from kameleon.keywords.parts import Part
from kameleon.keywords.reading import Snapshot, read
from kameleon.keywords.scoring import Clause, Placed, holding_phrase, score
from kameleon.keywords.vocabulary import Vocabulary
from kameleon.keywords.writing import append, bury
from kameleon.stores.bm25 import K1, B, idf
from kameleon.stores.keyword_tables import KeywordTables
from kameleon.stores.postgresql.postings import PostgreSQLPostings
from kameleon.stores.sqlite.postings import SQLitePostings

NOTES = Partition("", "Note")
CREATE = {
    "sqlite": (
        "CREATE TABLE number (doc INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE TABLE record (tenant TEXT, entity TEXT, id TEXT, doc INTEGER, content TEXT, "
        "PRIMARY KEY (tenant, entity, id))",
    ),
    "postgresql": (
        "CREATE SEQUENCE number",
        "CREATE TABLE record (tenant text, entity text, id text, doc bigint, content text, "
        "PRIMARY KEY (tenant, entity, id))",
    ),
}
NUMBER = {"sqlite": "INSERT INTO number DEFAULT VALUES RETURNING doc", "postgresql": "SELECT nextval('number')"}
ADD = "INSERT INTO record VALUES (:tenant, :entity, :id, :doc, :content) ON CONFLICT DO NOTHING RETURNING doc"
OF_RECORD = "FROM record WHERE tenant = :tenant AND entity = :entity AND id = :id"


class Terms(NamedTuple):
    terms: Sequence[str]
    positions: Sequence[int]
    length: int
    forms: Sequence[str]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.terms, self.forms or self.terms, strict=True))


def analysed(content: str) -> Terms:
    """Lower-case words, whose term is without a last s."""
    forms = re.findall(r"\w+", content.lower())
    return Terms([form.removesuffix("s") or form for form in forms], range(len(forms)), len(forms), forms)


def partitions(of: Sequence[Partition]) -> Partitions:
    """Of some tenants, each with the same entities."""
    tenants, entities = ({partition[n] for partition in of} for n in range(2))
    return Partitions(tuple(sorted(tenants)), tuple(sorted(entities)))


class Index:
    """One engine's; `limits` are small, so that few records make many folds and merges."""

    def __init__(self, engine: Engine, limits: Limits | None = None, *, creates: bool = True) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self.dialect: Dialect = SQLitePostings() if self.is_sqlite else PostgreSQLPostings()
        self.tables = KeywordTables(MetaData())
        self.cache = SegmentCache()
        self.maintenance = Maintenance(engine, self.dialect, self.tables, limits)
        if creates:
            with engine.begin() as connection:
                self.tables.create(connection)
                self.dialect.set_up(connection)
                for statement in CREATE[engine.dialect.name]:
                    connection.exec_driver_sql(statement)

    def put(self, connection: Connection, id: str, content: str, partition: Partition = NOTES, again: str = "") -> int:
        """What a writer does: the document that it replaces is read under the row's lock."""
        doc: int = connection.execute(text(NUMBER[self.engine.dialect.name])).scalar_one()
        row = {**partition._asdict(), "id": id, "doc": doc, "content": content}
        if connection.execute(text(ADD), row).first() is None:
            old = connection.execute(
                text(f"SELECT doc {OF_RECORD}" + ("" if self.is_sqlite else " FOR UPDATE")), row
            ).scalar_one()
            changed = OF_RECORD.removeprefix("FROM record")
            connection.execute(text(f"UPDATE record SET doc = :doc, content = :content {changed}"), row)
            bury(connection, self.dialect, {partition: [old]})
        document = Document(doc, analysed(content), analysed(again) if again else None)
        append(connection, self.dialect, {partition: [document]})
        return doc

    def add(self, connection: Connection, id: str, content: str, partition: Partition = NOTES) -> int:
        """A new record's row alone."""
        doc: int = connection.execute(text(NUMBER[self.engine.dialect.name])).scalar_one()
        connection.execute(text(ADD), {**partition._asdict(), "id": id, "doc": doc, "content": content})
        return doc

    def put_many(self, connection: Connection, contents: Mapping[str, str], partition: Partition = NOTES) -> None:
        """New records alone, at once."""
        documents = []
        for key, content in contents.items():
            documents.append(Document(self.add(connection, key, content, partition), analysed(content)))
        append(connection, self.dialect, {partition: documents})

    def delete(self, connection: Connection, id: str, partition: Partition = NOTES) -> None:
        statement = text(f"DELETE {OF_RECORD} RETURNING doc")
        docs = connection.execute(statement, {**partition._asdict(), "id": id}).scalars().all()
        bury(connection, self.dialect, {partition: docs})

    def parts(
        self,
        connection: Connection,
        terms: Iterable[str],
        placed: Iterable[str] = (),
        of: Sequence[Partition] = (NOTES,),
    ) -> Sequence[Part]:
        return self.read(connection, terms, placed, of).parts

    def read(
        self,
        connection: Connection,
        terms: Iterable[str],
        placed: Iterable[str] = (),
        of: Sequence[Partition] = (NOTES,),
    ) -> Snapshot:
        terms = sorted({*terms, *placed})
        return read(connection, self.dialect, self.cache, partitions(of), terms, sorted(set(placed)))

    def best(
        self, connection: Connection, query: str, limit: int = 10, of: Sequence[Partition] = (NOTES,)
    ) -> list[tuple[int, float]]:
        terms = Counter(analysed(query).terms)
        clauses = [Clause((term,), times) for term, times in sorted(terms.items())]
        snapshot = self.read(connection, terms, of=of)
        return score(snapshot.parts, clauses, snapshot.frame).best(limit)

    def phrase(self, connection: Connection, phrase: str) -> list[int]:
        terms = analysed(phrase).terms
        parts = self.parts(connection, terms, terms)
        mask = holding_phrase(parts, [Placed((term,), n) for n, term in enumerate(terms)])
        ranking = score(parts, [Clause((term,)) for term in sorted(set(terms))])
        return sorted(doc for doc, _ in ranking.best(len(mask), mask))

    def vocabulary(self, connection: Connection, of: Sequence[Partition] = (NOTES,)) -> Vocabulary:
        return Vocabulary(connection, self.dialect, self.cache, partitions(of))

    def contents(self, connection: Connection, of: Sequence[Partition] = (NOTES,)) -> dict[int, str]:
        rows = connection.execute(text("SELECT tenant, entity, doc, content FROM record"))
        return {doc: content for tenant, entity, doc, content in rows if Partition(tenant, entity) in of}

    def rows(self, connection: Connection, table: str) -> int:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def best(contents: Mapping[int, str], query: str, limit: int = 10) -> list[tuple[int, float]]:
    """BM25 of each document, best first."""
    counts = {doc: Counter(analysed(content).terms) for doc, content in contents.items()}
    lengths = {doc: sum(counted.values()) for doc, counted in counts.items()}
    average = sum(lengths.values()) / max(len(lengths), 1) or 1.0
    scores: dict[int, float] = defaultdict(float)
    for term, asked in Counter(analysed(query).terms).items():
        having = [doc for doc, counted in counts.items() if counted[term]]
        for doc in having:
            times, norm = counts[doc][term], K1 * (1 - B + B * lengths[doc] / average)
            scores[doc] += 2 * asked / (1 + asked) * idf(len(counts), len(having)) * times * (K1 + 1) / (times + norm)
    return sorted(scores.items(), key=lambda item: (-np.float32(item[1]), item[0]))[:limit]


def having_phrase(contents: Mapping[int, str], phrase: str) -> list[int]:
    wanted = f" {' '.join(analysed(phrase).terms)} "
    return sorted(doc for doc, content in contents.items() if wanted in f" {' '.join(analysed(content).terms)} ")


def assert_exact(
    index: Index, connection: Connection, queries: Iterable[str], of: Sequence[Partition] = (NOTES,)
) -> None:
    """Whatever the index holds, it answers as the records do."""
    contents = index.contents(connection, of)
    for query in queries:
        found, expected = dict(index.best(connection, query, 10_000, of)), dict(best(contents, query, 10_000))
        assert found.keys() == expected.keys(), query
        wanted = [expected[doc] for doc in found]
        np.testing.assert_allclose(list(found.values()), wanted, rtol=1e-5, err_msg=query)
    df: Counter[str] = Counter()
    for content in contents.values():
        df.update(set(analysed(content).terms))
    vocabulary = index.vocabulary(connection, of)
    assert vocabulary.frequencies([*df, "nonsense"]) == df
    words = vocabulary.completions("", 1_000)
    assert {form for content in contents.values() for form in analysed(content).forms} <= {word.form for word in words}
    assert {word.term: word.df for word in words} == df
