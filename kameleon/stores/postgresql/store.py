"""PostgreSQL's side of the seam: a tsvector with BM25 for keywords, pgvector for embeddings.

Keys are the records' own (`Ref`): no surrogate, so that Citus can distribute every table by `record_id`. Nothing here
needs a trigger, a lock that search would wait for, or state that outlives a transaction.

BM25 needs how often a term stands in a record. `ts_rank` of one term is, in C, the sum of 1/i² for i from 1 to that
number, over π²/6: a number of its own for each count up to the 255 positions that a tsvector keeps, so the count is
read back from it. Unnesting the tsvector for the same takes three times as long.
"""

import re
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import groupby, islice
from typing import Any, NamedTuple, cast

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Engine,
    Table,
    Text,
    bindparam,
    func,
    text,
)
from sqlalchemy import cast as cast_to
from sqlalchemy import column as column_of
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...analysis.highlighting import MARKED_CHARACTERS, cjk_pairs, merge, places
from ...content import CJK_RUN, analyze, lost_terms
from ...errors import InvalidInput, StorageError, VectorsUnavailable
from ...values import BUILDING, Failure, Generation, IndexStatus, Ref
from .. import claims
from ..bm25 import K1, QUERY_TERMS, QUERY_WORDS, B, best_first, cheapest, upper_bound, weight
from ..filters import Filter, bind, condition
from ..ownership import is_own, own_connection, own_driver
from ..protocols import (
    ATTEMPTS,
    Cached,
    Candidates,
    Embedding,
    Entry,
    Hit,
    Key,
    KeyRows,
    Matches,
    Scope,
    Spans,
    State,
    Term,
    bound,
    row_id,
)
from ..tables import id_text, parts, schema_of, utc
from . import copy as pgwire
from . import statements as sql
from . import triggers as postgresql_triggers
from .copy import Packed, adapt
from .errors import storage_error
from .health import Health
from .schema import ITERATIVE_SINCE, MAX_VECTOR
from .where import comparison

ROWS_A_STATEMENT = 1_000
ROWS_UPSERTED = 200
ROWS_INSERTED = 50
ROWS_A_COPY = 4_000
KEYS_A_STATEMENT = 10_000
POSTINGS = 5_000
NARROW = 10_000
MAX_EF_SEARCH = 1_000
ROWS_A_SECOND_OF_LAG = 40_000
ALWAYS_COUNTED = 10_000


class Totals(NamedTuple):
    """Records of the whole index and the terms in all of them. Counting a large table takes longer than a query, so
    they may lag: `until` when they serve, a second for every 40,000 records."""

    rows: int
    terms: int
    until: float

    @property
    def lag(self) -> float:
        return self.rows / ROWS_A_SECOND_OF_LAG


class PostgreSQLStore(Health):
    def __init__(
        self,
        engine: Engine,
        *,
        schema: str | None = None,
        language: str | None = None,
        m: int = 16,
        ef_construction: int = 64,
        ef_search: int = 600,
    ) -> None:
        for name, value, least, most in (
            ("m", m, 2, 100),
            ("ef_construction", ef_construction, 2 * m, 1_000),
            ("ef_search", ef_search, 1, MAX_EF_SEARCH),
        ):
            if not isinstance(value, int) or not least <= value <= most:
                raise InvalidInput(f"{name} is a whole number from {least} to {most}, not {value!r:.40}")
        super().__init__(engine, schema, language, m, ef_construction)
        self._ef_search = ef_search
        self._has_temp: bool | None = None
        self._totals: Totals | None = None

    # transactions

    def is_in_memory(self) -> bool:
        return False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A snapshot, begun by the driver, whose own settings are restored. Where a listener of the application's began
        the transaction, that one."""
        with own_connection(self._engine) as connection, unprepared(own_driver(connection)) as driver:
            if driver.info.transaction_status != TransactionStatus.IDLE:
                yield connection
                return
            before = driver.isolation_level, driver.read_only
            driver.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            driver.set_read_only(True)
            try:
                with explicitly_begun(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
                    yield connection
            finally:
                if not driver.closed:
                    driver.rollback()
                    driver.set_isolation_level(before[0])
                    driver.set_read_only(before[1])

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with own_connection(self._engine) as connection, unprepared(own_driver(connection)):
            with explicitly_begun(connection):
                yield connection
            connection.commit()

    def identity(self, connection: Connection) -> tuple[Any, ...] | None:
        """A replica that is only read has its primary's databases."""
        found = connection.exec_driver_sql(sql.IDENTITY).one()
        return (found.database, None if found.is_replica else found.began)

    def joining(self, connection: Connection) -> AbstractContextManager[None]:
        return explicitly_begun(connection)

    @contextmanager
    def visiting(self, connection: Connection) -> Iterator[None]:
        with self.joining(connection):
            connection.exec_driver_sql("SAVEPOINT kdb_visit")
            connection.info["kameleon_visited"] = True
            try:
                yield
            finally:
                connection.info["kameleon_visited"] = False
                connection.exec_driver_sql("ROLLBACK TO SAVEPOINT kdb_visit")
                connection.exec_driver_sql("RELEASE SAVEPOINT kdb_visit")

    @contextmanager
    def savepoint(self, connection: Connection) -> Iterator[None]:
        with connection.begin_nested():
            yield

    def caveat(self, connection: Connection) -> str:
        return ""

    def take_turn(self, connection: Connection) -> None:
        """Writers wait for each other's rows, not for turns."""

    def has_turn(self, connection: Connection) -> bool:
        return True

    def hold(self, connection: Connection, refs: Sequence[Ref]) -> None:
        """Citus cannot hold rows of several shards."""
        if not self._has_citus:
            for entity, ids in by_entity(refs):
                connection.execute(self._text(sql.HOLD), {"entity": entity, "ids": ids})

    def has_reader(self) -> bool:
        return self.has_spare_connection()

    @contextmanager
    def translating(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise storage_error(error.orig or error) from error
        except psycopg.Error as error:
            raise storage_error(error) from error
        except UnicodeError as error:
            raise StorageError(
                f"the connection's client_encoding cannot carry this text ({error}). Let it be UTF8"
            ) from error
        except InvalidRequestError as error:
            raise StorageError(f"the connection cannot be used: {error}") from error
        except PoolTimeout as error:
            raise StorageError(
                f"the engine's pool had no connection to give in time ({error}). Give it more (pool_size=, "
                "max_overflow=), or hold fewer"
            ) from error

    # upsert

    def states(
        self, connection: Connection, refs: Sequence[Ref], generation: Generation | None
    ) -> dict[tuple[str, str], State]:
        join = self._format(sql.JOIN_EMBEDDING, generation) if generation else ""
        statement = self._text(sql.STATES, join=join, embedded="e.content_hash" if generation else "NULL")
        return {
            (entity, id_): State(content_hash, embedded_hash)
            for entity, ids in by_entity(refs)
            for id_, content_hash, embedded_hash in connection.execute(statement, {"entity": entity, "ids": ids}).all()
        }

    def upsert(
        self, connection: Connection, entries: Sequence[Entry], generations: Sequence[Generation], now: datetime
    ) -> dict[tuple[str, str], Key]:
        """In the order of the keys, for two writers that meet in another order would wait for each other for ever."""
        entries = sorted(entries, key=lambda entry: entry.ref)
        tokens: set[str] = set()
        with self.vocabulary.reading([entry.content for entry in entries], tokens):
            if len(entries) > ROWS_UPSERTED and self._may_load(connection):
                self._copy_entries(connection, entries, now)
            else:
                self._insert_entries(connection, entries, now)
        self.learn(connection, tokens)
        for generation in generations:
            statement = self._text(sql.DELETE_STALE, generation)
            for entity, ids in by_entity([entry.ref for entry in entries]):
                connection.execute(statement, {"entity": entity, "ids": ids})
        return {entry.ref: entry.ref for entry in entries}

    def learn(self, connection: Connection, tokens: set[str]) -> None:
        self.vocabulary.learn(
            connection,
            tokens,
            lambda words: connection.execute(self._text(sql.KNOWN_WORDS), {"words": words}).scalars(),
            lambda forms: connection.execute(self._text(sql.ADD_FORMS), {"forms": forms}),
        )

    def count_words(self, connection: Connection, words: Sequence[str]) -> dict[str, int]:
        reader = self._reader(connection)
        cut = {word: " ".join(reader.asked(word)) for word in words}
        rows = connection.execute(self._text(sql.COUNT_WORDS), {"words": list(set(cut.values()))})
        counts = {row.word: row.rows for row in rows}
        return {word: counts.get(read, 0) for word, read in cut.items()}

    def _insert_entries(self, connection: Connection, entries: Sequence[Entry], now: datetime) -> None:
        words = self._reader(connection)
        statement = self._format(sql.UPSERT, rows=self._format(sql.ROWS, rows=sql.GIVEN))
        for part in parts(entries, ROWS_A_STATEMENT):
            rows = [(*ref, text_, *words.indexed(text_, emphasis), hash_) for ref, text_, hash_, emphasis in part]
            connection.exec_driver_sql(statement, (*map(list, zip(*rows, strict=True)), now))

    def _copy_entries(self, connection: Connection, entries: Sequence[Entry], now: datetime) -> None:
        """While PostgreSQL makes the tsvectors of one piece, the next is encoded."""
        words = self._reader(connection)
        stamp = pgwire.timestamp(now)

        def encode(part: Sequence[Entry]) -> bytes:
            rows = []
            for (entity, id_), content, hash_, emphasis in part:
                read, again, length = words.indexed(content, emphasis)
                texts = (entity, id_, content, read, again, hash_)
                rows.append((*map(str.encode, texts), pgwire.integer(length), stamp))
            return pgwire.encoded(rows)

        connection.execute(text(sql.LOADING))
        with ThreadPoolExecutor(1) as ahead:
            rest = parts(entries, ROWS_A_COPY)
            next_piece: Future[bytes] | None = ahead.submit(encode, next(rest))
            while next_piece is not None:
                piece = next_piece.result()
                part = next(rest, None)
                next_piece = ahead.submit(encode, part) if part else None
                self._copy(connection, "kdb_loading", sql.LOADING_COLUMNS, piece)
                connection.execute(self._text(sql.UPSERT, rows=self._format(sql.ROWS, rows=sql.LOADED)))
                connection.execute(text("TRUNCATE kdb_loading"))
        connection.execute(text("DROP TABLE kdb_loading"))

    def _copy(self, connection: Connection, table: str, names: Sequence[str], data: bytes) -> None:
        with own_driver(connection).cursor() as cursor:
            pgwire.copy_into(cursor, table, names, data)

    def _may_copy(self, connection: Connection) -> bool:
        """COPY is the driver's, so it is for synchronous connections of our own; what is copied is UTF-8."""
        is_ours = is_own(connection) and not connection.dialect.is_async
        return is_ours and bool(own_driver(connection).info.encoding == "utf-8")

    def _may_load(self, connection: Connection) -> bool:
        """COPY to a temporary table, which takes a right that most roles have."""
        if not self._may_copy(connection):
            return False
        if self._has_temp is None:
            right = text("SELECT has_database_privilege(current_database(), 'TEMPORARY')")
            self._has_temp = bool(connection.scalar(right))
        return self._has_temp

    def write_embeddings(
        self,
        connection: Connection,
        generation: Generation,
        embeddings: Sequence[Embedding],
        now: datetime,
        keys: Mapping[tuple[str, str], Key],
    ) -> None:
        held = self._held(connection, generation, [e.ref for e in embeddings if e.ref not in keys and e.passage == 0])
        said = {ref: row.content_hash for ref, row in held.items()}
        current = sorted(
            (e for e in embeddings if e.ref in keys or said.get(e.ref) == e.content_hash),
            key=lambda embedding: (embedding.ref, embedding.passage),
        )
        if not current:
            return
        several = [e.ref for e in current if e.passage == 0 and e.ref in held and held[e.ref].last_passage]
        for entity, ids in by_entity(several):
            connection.execute(self._text(sql.DELETE_PASSAGES, generation), {"entity": entity, "ids": ids})
        packed = packed_for(generation, [e.vector for e in current])
        rows = [(*e.ref, e.stored_hash, vector, *e[3:]) for e, vector in zip(current, packed, strict=True)]
        is_new = all(row.last_passage is None for row in held.values())
        if len(rows) > ROWS_INSERTED and is_new and self._may_copy_new(connection, generation, current, keys):
            self._copy(connection, self._embedding(generation), *copied(rows, now))
        elif len(rows) > ROWS_UPSERTED and self._may_load(connection):
            self._copy_embeddings(connection, generation, rows, now)
        else:
            self._insert_embeddings(connection, generation, rows, now)

    def give_up(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> list[Ref]:
        statement = self._text(sql.GIVE_UP, generation)
        return [
            Ref(entity, id_)
            for entity, ids in by_entity(refs)
            for id_ in connection.execute(statement, {"entity": entity, "ids": ids, "attempts": ATTEMPTS}).scalars()
        ]

    def _may_copy_new(
        self,
        connection: Connection,
        generation: Generation,
        current: Sequence[Embedding],
        keys: Mapping[tuple[str, str], Key],
    ) -> bool:
        """Whether none of the records that were written in this transaction has an embedding."""
        if not self._may_copy(connection):
            return False
        is_there = self._text(sql.ANY_EMBEDDING, generation)
        written = by_entity(embedding.ref for embedding in current if embedding.ref in keys)
        return not any(connection.scalar(is_there, {"entity": entity, "ids": ids}) for entity, ids in written)

    def _held(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> dict[Ref, Any]:
        """What the records say, once other writers of them are done, and no other changes it before this transaction
        ends; and whether they have an embedding. Citus cannot hold rows of several shards; there an embedding may be
        overtaken, which search sees. So may one of a generation that is being built, whose run sees to that before and
        after the switch: to lock each record of the index is to write each once more."""
        is_held = not self._has_citus and generation.state != BUILDING
        statement = self._text(sql.HASHES, generation, hold="FOR SHARE OF s" if is_held else "")
        return {
            Ref(entity, row.record_id): row
            for entity, ids in by_entity(refs)
            for row in connection.execute(statement, {"entity": entity, "ids": ids})
        }

    def _insert_embeddings(
        self, connection: Connection, generation: Generation, rows: Sequence[tuple[Any, ...]], now: datetime
    ) -> None:
        adapt(connection)
        for part in parts(rows, ROWS_A_STATEMENT):
            marks = ", ".join(["%s"] * len(part))
            given = self._format(sql.EMBEDDINGS_GIVEN, generation, vectors=marks)
            entities, ids, hashes, vectors, *others = map(list, zip(*part, strict=True))
            packed = [Packed(vector) if vector else None for vector in vectors]
            connection.exec_driver_sql(
                self._format(sql.UPSERT_EMBEDDING, generation, rows=given),
                (entities, ids, hashes, *packed, *others, now),
            )

    def _copy_embeddings(
        self, connection: Connection, generation: Generation, rows: Sequence[tuple[Any, ...]], now: datetime
    ) -> None:
        connection.execute(self._text(sql.LOADING_EMBEDDING, generation))
        self._copy(connection, "kdb_loading_embedding", *copied(rows, now))
        connection.execute(self._text(sql.UPSERT_EMBEDDING, generation, rows=sql.EMBEDDINGS_LOADED))
        connection.execute(text("DROP TABLE kdb_loading_embedding"))

    # delete

    def delete(self, connection: Connection, refs: Sequence[Ref], generations: Sequence[Generation]) -> int:
        """Embeddings go of those records alone that this transaction took out."""
        deleted = 0
        for entity, ids in by_entity(refs):
            gone = connection.execute(self._text(sql.DELETE), {"entity": entity, "ids": ids}).scalars().all()
            deleted += len(gone)
            for generation in generations:
                connection.execute(self._text(sql.DELETE_EMBEDDINGS, generation), {"entity": entity, "ids": list(gone)})
        return deleted

    # by_keyword

    def prepare_search(self, connection: Connection) -> None:
        """For this transaction alone. Plans are made for the terms at hand; compiling one costs more than it saves."""
        self._reader(connection)
        self._set(connection, "jit = off", "plan_cache_mode = force_custom_plan")

    def _set(self, connection: Connection, *settings: str) -> None:
        """In one message on a connection of ours; the driver of another may prepare statements, which takes single
        ones."""
        if self._has_citus:
            settings = ("citus.propagate_set_commands = 'local'", *settings)
        statements = [f"SET LOCAL {setting}" for setting in settings]
        for statement in ["; ".join(statements)] if is_own(connection) else statements:
            connection.exec_driver_sql(statement)

    def by_keyword(self, connection: Connection, query: str, scope: Scope, *, limit: int, enough: int) -> Candidates:
        terms, totals, unknown, is_whole = self._known_terms(connection, query)
        if not terms:
            return Candidates({}, is_exact=is_whole, unknown=unknown)
        chosen = cheapest(terms, POSTINGS)
        where, binds = self._scope_sql(scope, "s")
        binds |= {"limit": limit, "chosen": any_of(chosen), **self._bm25_binds(chosen, totals, "chosen")}
        score = sql.BM25.format(ones=sql.ONES, terms="chosen_terms", weights="chosen_weights")
        if len(chosen) == len(terms):
            statement = sql.BY_KEYWORD + sql.ALL_CHOSEN
        else:
            statement = sql.BY_KEYWORD + sql.WIDER
            binds |= {"enough": enough, "any": any_of(terms), **self._bm25_binds(terms, totals, "all")}
        full = sql.BM25.format(ones=sql.ONES, terms="all_terms", weights="all_weights")
        asked = self._text(statement, score=score, full_score=full, scope=where)
        rows = connection.execute(*bound(asked, binds)).all()
        if rows and rows[0].is_widened:
            chosen = terms
        return Candidates(
            best_first({Ref(row.entity_name, row.record_id): row.score for row in rows}),
            is_exact=is_whole and len(chosen) == len(terms),
            terms=tuple(terms),
            chosen_by=tuple(chosen),
            most=upper_bound(max(totals.rows, *(term.rows for term in terms), 1), terms),
            totals=totals,
            scanned=sum(term.rows for term in chosen),
            unknown=unknown,
        )

    def _known_terms(self, connection: Connection, query: str) -> tuple[list[Term], Totals, tuple[str, ...], bool]:
        """The query's terms that the index has, rarest first, the index's totals, the words of which it has no lexeme
        (a stop word makes none), and whether these are all terms."""
        times = Counter(word.lower() for word in self._reader(connection).asked(analyze(query)))
        words = list(times)[:QUERY_WORDS]
        if not words:
            return [], Totals(1, 1, 0.0), (), True
        known = self._totals
        is_due = known is None or time.monotonic() > known.until
        if known is not None and is_due:
            self._totals = known._replace(until=time.monotonic() + known.lag)  # others go on with it meanwhile
        with_totals, totals = (self._format(sql.WITH_TOTALS), sql.TOTALS) if is_due else ("", "")
        statement = self._text(sql.TERMS, quoted=sql.QUOTED, with_totals=with_totals, totals=totals)
        found = connection.execute(statement, {"words": words, "times": [times[word] for word in words]}).all()
        terms = [Term(words[row.place - 1], row.lexeme, row.rows, int(row.times)) for row in found if row.rows]
        if found and is_due:
            known = Totals(found[0].all_rows, int(found[0].all_terms or 0), time.monotonic())
            known = known._replace(until=known.until + known.lag)
            if known.rows > ALWAYS_COUNTED and not connection.info.get("kameleon_visited"):
                self._totals = known
        there = {place for row in found if row.rows for place in row.places}
        missing = {place for row in found for place in row.places} - there
        unknown = tuple(words[place - 1] for place in sorted(missing))
        return terms, known or Totals(1, 1, 0.0), unknown, len(times) <= QUERY_WORDS

    @staticmethod
    def _bm25_binds(terms: Sequence[Term], totals: Totals, name: str) -> dict[str, Any]:
        rows, length, _ = totals
        rows = max(rows, *(term.rows for term in terms), 1)
        return {
            f"{name}_terms": [quoted(term.stem) for term in terms],
            f"{name}_weights": [(K1 + 1) * weight(rows, term) for term in terms],
            "floor": K1 * (1 - B),
            "slope": K1 * B * rows / max(length, 1),
        }

    def spans(self, connection: Connection, query: str, texts: Sequence[str]) -> list[Spans]:
        words = self._reader(connection)
        texts = [content[:MARKED_CHARACTERS] for content in texts]
        found = [words.places(content) for content in texts]
        distinct = list({word for read in found for _, _, word in read})
        asked = list(dict.fromkeys(words.asked(query)))[:QUERY_TERMS]
        same: set[str] = set()
        if asked and distinct:
            same.update(connection.execute(self._text(sql.SAME_STEM), {"words": distinct, "asked": asked}).scalars())
        pairs = cjk_pairs(query)
        return [
            merge([*((start, end) for start, end, word in read if word in same), *places(content, pairs)])
            for read, content in zip(found, texts, strict=True)
        ]

    # by_vector

    def by_vector(
        self,
        connection: Connection,
        generation: Generation,
        vector: Any,
        scope: Scope,
        limit: int,
        keyword: Candidates,
    ) -> tuple[Candidates, Candidates]:
        self._prepare_vectors(connection, limit)
        where, binds = self._scope_sql(scope, "e")
        (packed,) = packed_for(generation, [vector.tobytes()])
        binds |= {"vector": Packed(packed or b""), "limit": limit, "hnsw": self._hnsw(generation)}
        ctes, wide = [sql.INDEX, sql.NEAR, sql.WHOLE, sql.NEAREST, sql.BEST], {"if_wide": "", "and_wide": ""}
        has_said = bool(scope.phrases or scope.excluded)
        if scope.filter is not None or scope.among is not None or has_said:
            ctes = [
                sql.INDEX,
                sql.ALLOWED_SAID if has_said else sql.ALLOWED if scope.filter else sql.ALLOWED_AMONG,
                sql.NEAR,
                sql.WHOLE,
                sql.FEW,
                sql.NEAREST_OR_FEW,
                sql.BEST,
            ]
            wide = {"if_wide": f" WHERE {sql.IS_WIDE}", "and_wide": f" AND {sql.IS_WIDE}", "is_wide": sql.IS_WIDE}
            wide["condition"] = self._record_condition(scope.filter, scope.entities, binds) if scope.filter else ""
            wide["among"] = scope.among.sql if scope.among else ""
            wide["said"] = self._scope_sql(scope, "s")[0] if has_said else ""
            binds["narrow"] = NARROW
        distance, score, others = self._format(sql.DISTANCE, generation), "NULL", ""
        if keyword.terms:
            score = sql.BM25.format(ones=sql.ONES, terms="all_terms", weights="all_weights")
            binds |= self._bm25_binds(keyword.terms, keyword.totals, "all")
        if keyword.scores:
            others = self._format(sql.OTHERS, generation, distance=distance)
            binds |= pairs_of(cast(Iterable[Ref], keyword.scores))
        made = [self._format(cte, generation, distance=distance, scope=where, **wide) for cte in ctes]
        statement = self._format(sql.BY_VECTOR, ctes=", ".join(made), score=score) + others
        rows = connection.execute(*bound(text(statement), binds)).all()
        while depth := deeper([row for row in rows if row.is_nearest], limit, binds["limit"]):
            binds["limit"] = depth
            rows = connection.execute(*bound(text(statement), binds)).all()
        nearest = {Ref(row.entity_name, row.record_id): row for row in rows if row.is_nearest}
        cosines = {Ref(row.entity_name, row.record_id): row.cosine for row in rows if not row.is_nearest}
        chosen = best_first({ref: row.cosine for ref, row in nearest.items()})
        nearest = {ref: nearest[ref] for ref in islice(cast(Iterable[Ref], chosen), limit)}
        is_hnsw = any(row.is_hnsw for row in nearest.values())
        own = Candidates(
            {ref: row.cosine for ref, row in nearest.items()},
            {ref: cosine for ref, cosine in cosines.items() if ref not in nearest},
            is_exact=not is_hnsw,
            how="hnsw" if is_hnsw else "exact",
        )
        scores: dict[Key, float] = {
            ref: row.score for ref, row in nearest.items() if row.score and ref not in keyword.scores
        }
        return replace(keyword, others=scores), own

    def _prepare_vectors(self, connection: Connection, limit: int) -> None:
        """pgvector may have come after this engine was made."""
        found = self._pgvector or self._load_extensions(connection)
        if found is None:
            raise VectorsUnavailable("pgvector was dropped from this database: CREATE EXTENSION vector;")
        adapt(connection)
        settings = [f"hnsw.ef_search = {min(MAX_EF_SEARCH, max(self._ef_search, limit))}"]
        if found.version >= ITERATIVE_SINCE:
            settings.append("hnsw.iterative_scan = relaxed_order")
        self._set(connection, *settings)

    # hits

    def refs(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, Ref]:
        return {key: cast(Ref, key) for key in keys}

    def hits(
        self, connection: Connection, keys: Sequence[Key], generation: Generation | None = None, vector: Any = None
    ) -> dict[Key, Hit]:
        binds: dict[str, Any] = pairs_of(cast(Iterable[Ref], keys))
        passage = sql.NO_PASSAGE
        if generation is not None:
            passage = self._format(sql.PASSAGE, generation, distance=self._format(sql.DISTANCE, generation))
            (packed,) = packed_for(generation, [vector.tobytes()])
            binds["vector"] = Packed(packed or b"")
        rows = connection.execute(self._text(sql.HITS, passage=passage), binds)
        return {
            Ref(row.entity_name, row.record_id): Hit(
                row.content, row.data, None if row.start_at is None else (row.start_at, row.end_at)
            )
            for row in rows
        }

    def matched_terms(
        self, connection: Connection, keys: Sequence[Key], terms: Sequence[Term]
    ) -> dict[Key, tuple[str, ...]]:
        binds = {**pairs_of(cast(Iterable[Ref], keys)), "terms": [quoted(term.stem) for term in terms]}
        found: dict[Key, tuple[str, ...]] = {}
        for entity, id_, place in connection.execute(self._text(sql.MATCHED_TERMS), binds):
            found[Ref(entity, id_)] = (*found.get(Ref(entity, id_), ()), terms[place - 1].surface)
        return found

    def embedding(self, connection: Connection, generation: Generation, ref: Ref) -> bytes | None:
        numbers = connection.scalar(self._text(sql.EMBEDDING_OF, generation), {"entity": ref.entity, "id": ref.id})
        return None if numbers is None else array("f", numbers).tobytes()

    # fields

    def entities(self, connection: Connection) -> list[str]:
        return list(connection.execute(self._text(sql.ENTITIES)).scalars())

    def matches(self, terms: Sequence[Term], scope: Scope, keys: Sequence[Key]) -> Matches:
        where, binds = self._scope_sql(scope, "s")
        binds |= pairs_of(cast(Iterable[Ref], keys))
        if terms:
            binds["match"] = any_of(terms)
        holding = self._format(sql.HOLDING) if terms else ""
        return Matches(self._format(sql.MATCHES, holding=holding, scope=where), binds)

    def count(self, connection: Connection, matches: Matches) -> int:
        statement, binds = bound(text(sql.COUNT.format(matches=matches.sql)), matches.binds)
        return connection.scalar(statement, binds) or 0

    def values(self, connection: Connection, refs: Sequence[Ref], field: str) -> dict[Ref, Any]:
        rows = connection.execute(self._text(sql.VALUES), {**pairs_of(refs), "path": field.split(".")})
        return {Ref(row.entity_name, row.id): row.value for row in rows}

    def facet(self, connection: Connection, matches: Matches, field: str, limit: int) -> list[tuple[Any, int]]:
        statement, binds = bound(text(self._format(sql.FACET, matches=matches.sql)), matches.binds)
        rows = connection.execute(statement, {**binds, "path": field.split("."), "limit": limit})
        return [(row.value, row.records) for row in rows]

    # status

    def status(self, connection: Connection, generation: Generation | None, *, has_provider: bool) -> list[IndexStatus]:
        join = self._format(sql.JOIN_EMBEDDING, generation) if generation else ""
        pending = sql.IS_PENDING if generation else "s.content_hash <> ''" if has_provider else "false"
        statement = self._text(sql.STATUS, join=join, pending=pending, failed=sql.IS_FAILED if generation else "false")
        return [
            IndexStatus(row.entity_name, row.indexed, row.pending, utc(row.last_updated), row.failed)
            for row in connection.execute(statement)
        ]

    def pending(
        self,
        connection: Connection,
        generation: Generation | None,
        *,
        after: Any,
        limit: int,
        is_failed: bool = False,
        is_tried: bool | None = None,
        upto: Any = None,
        entities: Sequence[str] = (),
    ) -> tuple[list[Entry], Any]:
        found = ["false" if is_failed or is_tried else "s.content_hash <> ''"]
        if generation is not None:
            failed = " AND e.reason IS NOT NULL" if is_failed else ""
            looked_up = self._format(sql.LOOKED_UP, generation, failed=failed)
            pending = {None: sql.STILL_PENDING, True: sql.IS_TRIED, False: sql.IS_NEW}[is_tried]
            found = [(sql.IS_REFUSED if is_failed else pending).format(looked_up=looked_up)]
        entity, id_ = after or ("", "")
        binds: dict[str, Any] = {"entity": entity, "id": id_, "limit": limit}
        if upto is not None:
            found.append(sql.UPTO)
            binds["last_entity"], binds["last_id"] = upto
        if entities:
            found.append(sql.OF_ENTITIES)
            binds["of"] = list(entities)
        rows = connection.execute(self._text(sql.PENDING, condition=" AND ".join(found)), binds).all()
        entries = [Entry(Ref(r.entity_name, r.record_id), r.content, r.content_hash) for r in rows]
        return entries, entries and entries[-1].ref

    def bounds(self, connection: Connection, size: int) -> list[Any]:
        return [list(row) for row in connection.execute(self._text(sql.BOUNDS), {"size": size})]

    def copy_embeddings(
        self,
        connection: Connection,
        source: Generation,
        target: Generation,
        *,
        without: Sequence[str],
        after: Any,
        upto: Any,
    ) -> None:
        entity, id_ = after or ("", "")
        binds: dict[str, Any] = {"entity": entity, "id": id_, "without": list(without)}
        if upto is not None:
            binds["last_entity"], binds["last_id"] = upto
        names = {"target": self._embedding(target), "upto": "" if upto is None else sql.COPIED_UPTO}
        connection.execute(self._text(sql.COPY_EMBEDDINGS, source, **names), binds)

    def failures(self, connection: Connection, generation: Generation) -> list[Failure]:
        statement = self._text(sql.FAILURES, join=self._format(sql.JOIN_EMBEDDING, generation), condition=sql.IS_FAILED)
        return [
            Failure(row.entity_name, row.record_id, row.reason, row.message, row.attempts)
            for row in connection.execute(statement)
        ]

    # cache

    def cached(self, connection: Connection, fingerprint: str, keys: Sequence[str]) -> list[Cached]:
        rows = connection.execute(self._text(sql.CACHED), {"keys": list(keys), "fingerprint": fingerprint})
        return [Cached(row.text_hash, row.embedding, utc(row.used_at)) for row in rows]

    def cache(self, connection: Connection, fingerprint: str, rows: Sequence[tuple[str, bytes]], now: datetime) -> None:
        statement = insert(self.tables.embedding_cache).on_conflict_do_nothing()
        values = {"fingerprint": fingerprint, "used_at": now}
        connection.execute(statement, [{**values, "text_hash": key, "embedding": vector} for key, vector in rows])

    # records

    def stored_ids(self, connection: Connection, entity: str, ids: Sequence[str]) -> set[str]:
        return set(connection.execute(self._text(sql.STORED_IDS), {"entity": entity, "ids": list(ids)}).scalars())

    def add_records(
        self, connection: Connection, entity: str, rows: Sequence[tuple[str, Mapping[str, Any]]], now: datetime
    ) -> None:
        if len(rows) <= ROWS_INSERTED or not self._may_copy(connection):
            names = {"entity_name": entity, "created_at": now, "updated_at": now}
            connection.execute(insert(self.tables.records), [{**names, "id": id_, "data": data} for id_, data in rows])
            return
        name, stamp = entity.encode(), pgwire.timestamp(now)
        encoded = pgwire.encoded((name, id_.encode(), pgwire.jsonb(data), stamp, stamp) for id_, data in rows)
        self._copy(connection, self._names["records"], sql.RECORD_COLUMNS, encoded)

    # queue

    def entries(self, connection: Connection, refs: Sequence[Ref]) -> list[Entry]:
        return [
            Entry(Ref(row.entity_name, row.record_id), row.content, row.content_hash)
            for entity, ids in by_entity(refs)
            for row in connection.execute(self._text(sql.ENTRIES), {"entity": entity, "ids": ids})
        ]

    def can_hold_rows(self) -> bool:
        return not self._has_citus

    def enqueue(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        connection.execute(*claims.replacing(insert(self.tables.queue), rows))

    # marks

    def set_triggers(
        self, connection: Connection, table: Table, key: Sequence[tuple[Any, str]], entities: Sequence[str]
    ) -> None:
        schema = schema_of(table, connection)
        if entities:
            id_of = partial(row_id, self.id_text, connection.dialect, key)
            postgresql_triggers.create(connection, table, schema, entities, id_of, self._names["search"])
        else:
            postgresql_triggers.drop(connection, table, schema, self._names["search"])

    def may_replace(self, table: Table, prefixes: str = "") -> bool:
        return False

    def replaced(
        self, connection: Connection, table: Table, key: Sequence[str]
    ) -> AbstractContextManager[Callable[[], list[tuple[Any, ...]]]]:
        return nullcontext(list)

    # health

    def unused_index(self, connection: Connection, generation: Generation) -> str:
        self.prepare_search(connection)
        self._prepare_vectors(connection, limit=10)
        return self._why_unused(connection, generation)

    # filters

    def id_text(self, columns: Sequence[tuple[Any, str]]) -> ColumnElement[str]:
        return id_text(columns, lambda text: cast_to(func.to_json(text), Text)).collate("C")

    def key_rows(self, columns: Sequence[tuple[Any, str]], keys: Sequence[Sequence[Any]]) -> KeyRows:
        """An array for each column, unnested side by side."""
        names = [f"k{place}" for place in range(len(columns))]
        arrays = [
            bindparam(None, list(values), type_=ARRAY(column.type), unique=True)
            for (column, _), values in zip(columns, zip(*keys, strict=True), strict=True)
        ]
        typed = [column_of(name, column.type) for name, (column, _) in zip(names, columns, strict=True)]
        rows = func.unnest(*arrays).table_valued(*typed, with_ordinality="place", name="kameleon_hits").render_derived()
        return KeyRows(rows, [rows.c[name] for name in names], rows.c.place)

    def filter_sql(self, filter_: Filter) -> tuple[str, dict[str, Any]]:
        binds: dict[str, Any] = {}
        return condition(filter_, binds, comparison), binds

    def _scope_sql(self, scope: Scope, alias: str) -> tuple[str, dict[str, Any]]:
        """A condition on `alias`."""
        binds: dict[str, Any] = {}
        asked = []
        if scope.entities:
            asked.append(f"{alias}.entity_name = ANY(:scope)")
            binds["scope"] = list(scope.entities)
        if scope.filter is not None:
            asked.append(
                f"EXISTS (SELECT 1 FROM {self._names['records']} WHERE kdb_records.entity_name = {alias}.entity_name "
                f"AND kdb_records.id = {alias}.record_id AND {condition(scope.filter, binds, comparison)})"
            )
        if scope.among is not None:
            asked.append(f"{alias}.record_id IN ({scope.among.sql})")
            binds |= scope.among.binds
        if scope.without is not None:
            asked.append(f"({alias}.entity_name, {alias}.record_id) <> (:without_entity, :without_id)")
            binds |= {"without_entity": scope.without.entity, "without_id": scope.without.id}
        said = self._said(scope, binds)
        if said and alias == "s":
            asked.append(said)
        elif said:
            asked.append(
                f"EXISTS (SELECT 1 FROM {self._names['search']} AS s WHERE s.entity_name = {alias}.entity_name "
                f"AND s.record_id = {alias}.record_id AND {said})"
            )
        return " AND ".join(asked) or "true", binds

    def _said(self, scope: Scope, binds: dict[str, Any]) -> str:
        """Which phrases stand in the content of `s`, and which do not."""
        return " AND ".join(
            f"{wanted}({said})"
            for wanted, phrases in (("", scope.phrases), ("NOT ", scope.excluded))
            for said in (self._says(phrase, binds) for phrase in phrases)
            if said
        )

    def _says(self, phrase: str, binds: dict[str, Any]) -> str:
        """Empty where it has no words. Chinese, Japanese and Korean are looked for by their characters, which stand one
        after another among the terms; a phrase of stop words, and one in a text too long for its places to be kept, as
        it is written."""
        if self._words is None:
            return ""
        runs = CJK_RUN.findall(phrase)
        phrases = [" ".join(run) for run in runs] or [" ".join(self._words.asked(phrase))]
        codes = "" if runs else " ".join(self._words.asked(lost_terms(phrase)))
        if not any(phrases):
            return ""
        written, coded = bind(binds, verbatim(phrase)), bind(binds, codes)
        said = [self._format(sql.SAYS, words=bind(binds, words), codes=coded, verbatim=written) for words in phrases]
        if runs and runs != [phrase]:
            said.append(f"s.content ~* {written}")
        return " AND ".join(said)

    def _record_condition(self, filter_: Filter, entities: Sequence[str], binds: dict[str, Any]) -> str:
        """The same on `kdb_records`, `:scope` being bound."""
        asked = condition(filter_, binds, comparison)
        return f"kdb_records.entity_name = ANY(:scope) AND {asked}" if entities else asked


@contextmanager
def unprepared(driver: Any) -> Iterator[Any]:
    """Nothing is prepared on the server: our statements differ from each other, and a pooler between may hand the next
    transaction to another server process."""
    prepared_after, driver.prepare_threshold = driver.prepare_threshold, None
    try:
        yield driver
    finally:
        driver.prepare_threshold = prepared_after


@contextmanager
def explicitly_begun(connection: Connection, begin: str = "BEGIN") -> Iterator[None]:
    """A transaction where each statement would commit alone, as in AUTOCOMMIT; none where one is open."""
    dbapi: Any = connection.connection.dbapi_connection
    if not dbapi.autocommit or dbapi.info.transaction_status != TransactionStatus.IDLE:
        yield
        return
    connection.exec_driver_sql(begin)
    try:
        yield
    except BaseException:
        with suppress(DBAPIError):  # a connection that is gone has rolled back
            connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")


def copied(rows: Sequence[tuple[Any, ...]], now: datetime) -> tuple[Sequence[str], bytes]:
    """Columns and data of embeddings, as COPY takes them: no columns that all rows leave empty."""
    stamp = pgwire.timestamp(now)
    names: tuple[str, ...] = sql.EMBEDDING_COLUMNS
    if is_refused := any(row[4] is not None for row in rows):
        names += sql.REFUSAL_COLUMNS
    if is_split := any(row[7] is not None for row in rows):
        names += sql.PASSAGE_COLUMNS

    def fields() -> Iterator[Sequence[bytes | None]]:
        for entity, id_, hash_, vector, reason, message, *place in rows:
            row: tuple[bytes | None, ...] = (entity.encode(), id_.encode(), hash_.encode(), stamp, vector)
            if is_refused:
                row += (reason and reason.encode(), message and message.encode())
            if is_split:
                row += tuple(None if number is None else pgwire.integer(number) for number in place)
            yield row

    return names, pgwire.encoded(fields())


def deeper(nearest: Sequence[Any], wanted: int, depth: int) -> int:
    """How many passages to look at next, where the `depth` nearest are of fewer records than wanted; 0 where these are
    all there are."""
    if len(nearest) >= wanted or not nearest or nearest[0].looked_at < depth:
        return 0
    return max(2 * depth, 3 * depth * wanted // (2 * len(nearest)))


def packed_for(generation: Generation, vectors: Sequence[bytes | None]) -> list[bytes | None]:
    return pgwire.vectors(vectors, generation.dimensions, is_half=generation.dimensions > MAX_VECTOR)


def by_entity(refs: Iterable[Ref]) -> Iterator[tuple[str, list[str]]]:
    """Ids by entity, in pieces, in the order of the keys."""
    for entity, group in groupby(sorted(refs), key=lambda ref: ref.entity):
        for part in parts([ref.id for ref in group], KEYS_A_STATEMENT):
            yield entity, list(part)


def pairs_of(refs: Iterable[Ref]) -> dict[str, list[str]]:
    listed = list(refs)
    return {"entities": [ref.entity for ref in listed], "ids": [ref.id for ref in listed]}


def quoted(lexeme: str) -> str:
    """A lexeme as a tsquery of itself: nothing in it is an operator."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def verbatim(phrase: str) -> str:
    """A pattern of the phrase's words with anything but letters and digits between them."""
    words = re.findall(r"[^\W_]+", phrase)
    before, after = ("" if CJK_RUN.match(end) else "[^[:alnum:]]" for end in (words[0][0], words[-1][-1]))
    between = "[^[:alnum:]]+".join(words)
    return (f"(^|{before})" if before else "") + between + (f"($|{after})" if after else "")


def any_of(terms: Iterable[Term]) -> str:
    return " | ".join(quoted(term.stem) for term in terms)
