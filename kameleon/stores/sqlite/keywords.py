"""Keywords in SQLite: FTS5's index, BM25 of candidates, the vocabulary. Imports fts5, bm25, scope and vocabulary."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Engine, text

from ...analysis.spelling import LAST
from ...content import CJK_RUN, analyze, lost_terms
from ...forking import lazy
from ..bm25 import (
    QUERY_TERMS,
    QUERY_WORDS,
    best_first,
    cheapest,
    telling,
    term_score,
    times_weight,
    upper_bound,
    weight,
)
from ..filters import bind
from ..tables import Tables
from ..values import Candidates, Key, Scope, Spans, Term, bound
from ..vocabulary import COMMONEST, SCANNED, Vocabulary
from . import fts5
from .rows import as_json
from .scope import ResolvedScope, SQLiteScopes

POSTINGS = 5_000
FEW_TERMS = 5_000
DEFAULT_LANGUAGE = "english"

# FTS5 keeps no text of its own: a row is taken out by saying again what was put in, so before its text changes.
INDEX = text("""
    INSERT INTO kdb_search_fts (rowid, content, terms)
    SELECT s.id, s.content, s.terms FROM json_each(:keys) AS k CROSS JOIN kdb_search AS s ON s.id = k.value
""")

UNINDEX = text("""
    INSERT INTO kdb_search_fts (kdb_search_fts, rowid, content, terms)
    SELECT 'delete', s.id, s.content, s.terms
    FROM json_each(:keys) AS k CROSS JOIN kdb_search AS s ON s.id = k.value
""")

KNOWN_WORDS = text(
    "SELECT w.value FROM json_each(:words) AS w WHERE EXISTS (SELECT 1 FROM kdb_term AS t WHERE t.form = w.value)"
)
ADD_FORMS = text("INSERT INTO kdb_term (form) SELECT value FROM json_each(:forms)")

TERM_ROWS = text(
    "SELECT v.term, v.doc FROM json_each(:terms) AS t CROSS JOIN kdb_search_vocab AS v ON v.term = t.value"
)
BROKEN_TERM_ROWS = text("SELECT doc FROM kdb_search_vocab WHERE term = CAST(:term AS TEXT)")

COMMONEST_TERMS = text("""
    SELECT term FROM (SELECT term, doc FROM kdb_search_vocab WHERE term >= :first AND term < :last LIMIT :scanned)
    ORDER BY doc DESC, term LIMIT :most
""")

FTS_TOTALS = text("SELECT block FROM kdb_search_fts_data WHERE id = 1")

BY_KEYWORD = text("""
    SELECT f.rowid, -bm25(kdb_search_fts) AS score
    FROM kdb_search_fts AS f
    WHERE kdb_search_fts MATCH :match
    ORDER BY rank, f.rowid
    LIMIT :limit
""")

BY_KEYWORD_AMONG = text("""
    SELECT f.rowid, -bm25(kdb_search_fts) AS score
    FROM kdb_search_fts AS f
    WHERE kdb_search_fts MATCH :match AND +f.rowid IN (SELECT value FROM json_each(:ids))
    ORDER BY rank, f.rowid
    LIMIT :limit
""")

# A subquery without a LIMIT may lose its order.
RANKED = """
    SELECT rowid, -bm25(kdb_search_fts) AS score FROM kdb_search_fts
    WHERE kdb_search_fts MATCH :match ORDER BY rank, rowid LIMIT -1
"""

RANKED_BY_TIMES = """
    SELECT rowid, sum(score) AS score FROM ({each}) GROUP BY rowid ORDER BY score DESC, rowid LIMIT -1
"""

ASKED_AS_OFTEN = """
    SELECT rowid, score FROM (
      SELECT rowid, :weight{n} * -bm25(kdb_search_fts) AS score FROM kdb_search_fts
      WHERE kdb_search_fts MATCH :match{n} LIMIT -1
    )
"""

BY_RANK = "SELECT f.rowid, f.score FROM ({ranked}) AS f {within} LIMIT :limit"
AMONG = "WHERE f.rowid IN (SELECT value FROM json_each(:ids))"
WITHIN = "CROSS JOIN kdb_search AS s ON s.id = f.rowid WHERE {scope}"

ANALYZED = text("""
    SELECT s.id, s.content || ' ' || s.terms AS analyzed
    FROM json_each(:keys) AS k CROSS JOIN kdb_search AS s ON s.id = k.value
""")


class SQLiteKeywords:
    """`language` is how the index reads texts: english (stems, stop words) or simple (words as they are)."""

    def __init__(self, engine: Engine, tables: Tables, language: str) -> None:
        self.language = language
        self.vocabulary = Vocabulary(tables, self._commonest)
        self.scopes = SQLiteScopes(self._says, lambda connection: self._totals(connection)[0])
        self._engine = engine

    @property
    def tokenizer(self) -> str:
        return fts5.TOKENIZERS[self.language]

    def index(self, connection: Connection, keys: Iterable[Key]) -> None:
        connection.execute(INDEX, {"keys": as_json(keys)})

    def unindex(self, connection: Connection, keys: Iterable[Key]) -> None:
        connection.execute(UNINDEX, {"keys": as_json(keys)})

    def prepare_search(self, connection: Connection) -> None:
        """SQLite has nothing to set."""

    def by_keyword(self, connection: Connection, query: str, scope: Scope, *, limit: int, enough: int) -> Candidates:
        terms, unknown, is_whole = self._known_terms(connection, query)
        reach = self.scopes.resolve(connection, scope)
        if reach.ids is not None and self._are_short(connection, len(reach.ids)):
            scores = best_first(self.keyword_scores(connection, terms, reach.ids))
            scores = dict(list(scores.items())[:limit])
            return Candidates(
                scores,
                is_exact=is_whole,
                terms=tuple(terms),
                most=upper_bound(self._totals(connection)[0], terms),
                totals=reach,
                unknown=unknown,
                scanned=len(reach.ids),
            )
        chosen = cheapest(terms, POSTINGS)
        scores = {}
        while chosen:
            scores = self._best_within(connection, chosen, reach, limit)
            if len(scores) >= enough or len(chosen) == len(terms):
                break
            chosen = terms[: 2 * len(chosen)]
        if len(chosen) < len(terms):
            scores = self.keyword_scores(connection, terms, list(scores))
        return Candidates(
            best_first(scores),
            is_exact=is_whole and len(chosen) == len(terms),
            terms=tuple(terms),
            chosen_by=tuple(chosen),
            most=upper_bound(self._totals(connection)[0], terms),
            totals=reach,
            scanned=sum(term.rows for term in chosen),
            unknown=unknown,
        )

    def _best_within(
        self, connection: Connection, terms: Sequence[Term], reach: ResolvedScope, limit: int
    ) -> dict[Key, float]:
        """The `limit` best within reach. Where that is wide, records are looked at in the order of their scores, until
        there are enough, which costs less than looking at every one that FTS5 finds."""
        is_once = all(term.times == 1 for term in terms)
        ranked, binds = ranked_once(terms) if is_once else ranked_by_times(terms)
        binds["limit"], within = limit, ""
        if reach.ids is not None:
            within, binds["ids"] = AMONG, json.dumps(reach.ids)
        elif not reach.is_all:
            within = WITHIN.format(scope=reach.where)
            binds |= reach.binds
        if is_once and (reach.is_all or reach.ids is not None):
            statement = BY_KEYWORD if reach.is_all else BY_KEYWORD_AMONG
        else:
            statement, binds = bound(text(BY_RANK.format(ranked=ranked, within=within)), binds)
        return {row.rowid: row.score for row in connection.execute(statement, binds)}

    def _are_short(self, connection: Connection, records: int) -> bool:
        """Whether so many records of average length are read sooner than the postings of a query's terms."""
        rows, length = self._totals(connection)
        return records * length <= FEW_TERMS * rows

    def keyword_scores(self, connection: Connection, terms: Sequence[Term], keys: Sequence[Key]) -> dict[Key, float]:
        """BM25 from the index's own totals and the rows' texts; a row without any of the terms is absent."""
        if not terms or not keys:
            return {}
        rows, length = self._totals(connection)
        texts = {row.id: row.analyzed for row in connection.execute(ANALYZED, {"keys": json.dumps(keys)})}
        counted = self._reader.count(list(texts.values()), terms)
        weights = {term.stem: weight(rows, term) for term in terms}
        scores = {
            key: sum(term_score(weights[stem], n, size, length / rows) for stem, n in counts.items())
            for key, (size, counts) in zip(texts, counted, strict=True)
        }
        return {key: score for key, score in scores.items() if score > 0}

    def _known_terms(self, connection: Connection, query: str) -> tuple[list[Term], tuple[str, ...], bool]:
        """The query's terms that the index has, rarest first, the words that it has not, and whether these are all."""
        read = self._telling(self._reader.terms(analyze(query)))
        asked = {term.stem: term for term in read[:QUERY_WORDS]}
        whole = json.dumps([stem for stem in asked if fts5.is_whole(stem)])
        counts = {row.term: row.doc for row in connection.execute(TERM_ROWS, {"terms": whole})}
        for stem in asked:
            if not fts5.is_whole(stem) and (rows := connection.scalar(BROKEN_TERM_ROWS, {"term": fts5.raw(stem)})):
                counts[stem] = rows
        known = [replace(asked[stem], rows=rows) for stem, rows in counts.items()]
        unknown = tuple(term.surface for stem, term in asked.items() if stem not in counts)
        return sorted(known, key=lambda term: (term.rows, term.stem)), unknown, len(read) <= QUERY_WORDS

    def _totals(self, connection: Connection) -> tuple[int, int]:
        """Rows and terms in the whole index, from FTS5's averages record."""
        block = connection.scalar(FTS_TOTALS)
        rows, *lengths = fts5.varints(block) if block else [0]
        return max(rows, 1), max(sum(lengths), 1)

    def _telling(self, terms: Sequence[Term]) -> Sequence[Term]:
        return telling(terms) if self.language == DEFAULT_LANGUAGE else terms

    @lazy
    def _reader(self) -> fts5.TextReader:
        dialect: Any = self._engine.dialect
        return fts5.TextReader(dialect.dbapi.sqlite if dialect.is_async else dialect.dbapi, self.language)

    def matched_terms(
        self, connection: Connection, keys: Sequence[Key], terms: Sequence[Term]
    ) -> dict[Key, tuple[str, ...]]:
        texts = {row.id: row.analyzed for row in connection.execute(ANALYZED, {"keys": json.dumps(keys)})}
        counted = self._reader.count(list(texts.values()), terms)
        return {
            key: tuple(term.surface for term in terms if term.stem in counts)
            for key, (_, counts) in zip(texts, counted, strict=True)
        }

    def count_words(self, connection: Connection, words: Sequence[str]) -> dict[str, int]:
        stems = self._reader.stems(words)
        counts = {row.term: row.doc for row in connection.execute(TERM_ROWS, {"terms": json.dumps(list(set(stems)))})}
        return {word: counts.get(stem, 0) for word, stem in zip(words, stems, strict=True)}

    def learn(self, connection: Connection, tokens: set[str]) -> None:
        self.vocabulary.learn(
            connection,
            tokens,
            lambda words: connection.execute(KNOWN_WORDS, {"words": json.dumps(words)}).scalars(),
            lambda forms: connection.execute(ADD_FORMS, {"forms": json.dumps(forms)}),
        )

    def _commonest(self, connection: Connection, prefix: str) -> list[str]:
        first = next((term.surface for term in self._reader.terms(prefix)), prefix)
        binds = {"first": first, "last": first + LAST, "scanned": SCANNED, "most": COMMONEST}
        return list(connection.execute(COMMONEST_TERMS, binds).scalars())

    def spans(self, connection: Connection, query: str, texts: Sequence[str]) -> list[Spans]:
        return self._reader.spans(query, self._telling(self._reader.terms(query))[:QUERY_TERMS], texts)

    def _says(self, phrase: str, binds: dict[str, Any]) -> str:
        """Whether a record's content has the phrase; empty where it has no words. Chinese, Japanese and Korean are
        looked for by their characters, which stand one after another among the terms."""
        runs = CJK_RUN.findall(phrase)
        if not runs and not self._reader.terms(phrase):
            return ""
        asked = [("terms", " ".join(run)) for run in runs] or [
            ("content", phrase),
            *(("terms", code) for code in lost_terms(phrase).split()),
        ]
        match = bind(binds, " AND ".join(f"{{{column}}} : {fts5.quoted(words)}" for column, words in asked))
        said = f"s.id IN (SELECT rowid FROM kdb_search_fts WHERE kdb_search_fts MATCH {match})"
        if runs and runs != [phrase]:
            said += f" AND instr(lower(s.content), lower({bind(binds, phrase)})) > 0"
        return said


def ranked_once(terms: Sequence[Term]) -> tuple[str, dict[str, Any]]:
    return RANKED, {"match": fts5.match_any(terms)}


def ranked_by_times(terms: Sequence[Term]) -> tuple[str, dict[str, Any]]:
    """All that have any of the terms, best first. FTS5 weighs no term: those that were asked as often go together."""
    by_times: dict[int, list[Term]] = {}
    for term in terms:
        by_times.setdefault(term.times, []).append(term)
    binds: dict[str, Any] = {}
    for n, (times, group) in enumerate(by_times.items()):
        binds |= {f"weight{n}": times_weight(times), f"match{n}": fts5.match_any(group)}
    each = " UNION ALL ".join(ASKED_AS_OFTEN.format(n=n) for n in range(len(by_times)))
    return RANKED_BY_TIMES.format(each=each), binds


def keyword_terms(content: str, emphasis: str) -> str:
    """What is indexed beside the content."""
    lost = lost_terms(content)
    return f"{lost} {analyze(emphasis)}" if emphasis else lost
