"""Keywords in PostgreSQL: a tsvector's terms, BM25, the vocabulary. Imports tsvector, bm25, scope and vocabulary.

BM25 needs how often a term stands in a record. `ts_rank` of one term is, in C, the sum of 1/i² for i from 1 to that
number, over π²/6: a number of its own for each count up to the 255 positions that a tsvector keeps, so the count is
read back from it. Unnesting the tsvector for the same takes three times as long.
"""

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection

from ...analysis.highlighting import MARKED_CHARACTERS, cjk_pairs, merge, places
from ...content import CJK_RUN, analyze, lost_terms
from ...errors import SchemaMissing
from ...values import Ref
from ..bm25 import K1, QUERY_TERMS, QUERY_WORDS, B, best_first, cheapest, upper_bound, weight
from ..filters import bind
from ..tables import Tables
from ..values import Candidates, Key, Scope, Spans, Term, bound
from ..vocabulary import COMMONEST as COMMONEST_STEMS
from ..vocabulary import Vocabulary
from .connections import PRESERVED, PostgreSQLConnections
from .rows import pairs_of
from .scope import PostgreSQLScopes
from .templates import Templates
from .tsvector import Words

POSTINGS = 5_000
SAMPLED = 500
ROWS_A_SECOND_OF_LAG = 40_000
ALWAYS_COUNTED = 10_000

# A lexeme is quoted before it becomes a tsquery: a dictionary may make one of anything.
QUOTED = "('''' || replace(replace(a.lexeme, '\\', '\\\\'), '''', '''''') || '''')"

TERMS = """
    WITH asked AS MATERIALIZED (
      SELECT l.lexeme, min(w.place) AS place, array_agg(w.place) AS places, sum(w.times) AS times
      FROM unnest(CAST(:words AS text[]), CAST(:times AS integer[])) WITH ORDINALITY AS w(word, times, place),
        unnest(to_tsvector({language}, w.word)) AS l
      GROUP BY l.lexeme
    ), counted AS MATERIALIZED (
      SELECT a.lexeme, count(*) AS rows
      FROM asked AS a JOIN {search} AS s ON s.terms @@ CAST({quoted} AS tsquery)
      GROUP BY a.lexeme
    ){with_totals}
    SELECT a.lexeme, a.place, a.places, a.times, coalesce(c.rows, 0) AS rows{totals}
    FROM asked AS a LEFT JOIN counted AS c ON c.lexeme = a.lexeme
    ORDER BY rows, a.lexeme
"""
WITH_TOTALS = ", totals AS MATERIALIZED (SELECT count(*) AS rows, sum(n_terms) AS terms FROM {search})"
TOTALS = ", (SELECT rows FROM totals) AS all_rows, (SELECT terms FROM totals) AS all_terms"

# Words that stem alike are counted once.
COUNT_WORDS = """
    WITH asked AS MATERIALIZED (
      SELECT w.word, plainto_tsquery({language}, w.word) AS said FROM unnest(CAST(:words AS text[])) AS w(word)
    ), counted AS MATERIALIZED (
      SELECT a.said, count(*) AS rows
      FROM (SELECT DISTINCT said FROM asked WHERE numnode(said) > 0) AS a JOIN {search} AS s ON s.terms @@ a.said
      GROUP BY a.said
    )
    SELECT asked.word, counted.rows FROM asked JOIN counted ON counted.said = asked.said
"""

COMMONEST = """
    WITH sampled AS MATERIALIZED (
      SELECT s.terms FROM {search} AS s WHERE s.terms @@ CAST(:begins AS tsquery) LIMIT :sampled
    )
    SELECT l.lexeme FROM sampled CROSS JOIN LATERAL unnest(tsvector_to_array(sampled.terms)) AS l(lexeme)
    WHERE starts_with(l.lexeme, :first) GROUP BY l.lexeme ORDER BY count(*) DESC, l.lexeme LIMIT :most
"""
KNOWN_WORDS = "SELECT DISTINCT form FROM {term} WHERE form = ANY(:words)"
ADD_FORMS = "INSERT INTO {term} (form) SELECT unnest(CAST(:forms AS text[]))"
ONES = "CAST(ARRAY[1, 1, 1, 1] AS real[])"

BM25 = """(
      SELECT sum(t.weight * t.times / (t.times + :floor + :slope * s.n_terms)) FROM (
        SELECT a.weight,
          round(1 / (1.64493406685 * (1 - CAST(ts_rank({ones}, s.terms, a.term) AS float8))) - 0.55) AS times
        FROM unnest(CAST(:{terms} AS tsquery[]), CAST(:{weights} AS float8[])) AS a(term, weight)
      ) AS t
    )"""

BY_KEYWORD = """
    WITH ranked AS MATERIALIZED (
      SELECT s.entity_name, s.record_id, {score} AS score FROM {search} AS s
      WHERE s.terms @@ CAST(:chosen AS tsquery) AND {scope}
      ORDER BY score DESC, s.entity_name, s.record_id LIMIT :limit
    )
"""
ALL_CHOSEN = "SELECT entity_name, record_id, score, false AS is_widened FROM ranked"

WIDER = """
    SELECT ranked.entity_name, ranked.record_id, {full_score} AS score, false AS is_widened
    FROM ranked JOIN {search} AS s ON s.entity_name = ranked.entity_name AND s.record_id = ranked.record_id
    WHERE (SELECT count(*) FROM ranked) >= :enough
    UNION ALL (
      SELECT w.* FROM (SELECT 1 WHERE (SELECT count(*) FROM ranked) < :enough) AS is_open CROSS JOIN LATERAL (
        SELECT s.entity_name, s.record_id, {full_score} AS score, true AS is_widened FROM {search} AS s
        WHERE s.terms @@ CAST(:any AS tsquery) AND {scope}
        ORDER BY score DESC, s.entity_name, s.record_id LIMIT :limit
      ) AS w
    )
"""

# The tsquery of all words finds the records by the index; `fitting` has moved the words of a long text about.
SAYS = """(
      (numnode(plainto_tsquery({language}, {words})) = 0 OR s.terms @@ plainto_tsquery({language}, {words}))
      AND (numnode(plainto_tsquery({language}, {codes})) = 0 OR s.terms @@ plainto_tsquery({language}, {codes}))
      AND CASE
        WHEN numnode(phraseto_tsquery({language}, {words})) = 0 OR s.n_terms >= 16383 OR length(s.content) >= 50000
        THEN s.content ~* {verbatim}
        ELSE s.terms @@ CAST(
          regexp_replace(CAST(phraseto_tsquery({language}, {words}) AS text), '(''([^'']|'''')+'')', '\\1:D', 'g')
          AS tsquery
        )
      END
    )"""

MATCHED_TERMS = """
    SELECT s.entity_name, s.record_id, a.place
    FROM unnest(CAST(:entities AS text[]), CAST(:ids AS text[])) AS k(entity_name, record_id)
      JOIN {search} AS s ON s.entity_name = k.entity_name AND s.record_id = k.record_id
      CROSS JOIN unnest(CAST(:terms AS tsquery[])) WITH ORDINALITY AS a(term, place)
    WHERE s.terms @@ a.term ORDER BY a.place
"""

SAME_STEM = """
    SELECT w.word FROM unnest(CAST(:words AS text[])) AS w(word)
    WHERE tsvector_to_array(to_tsvector({language}, w.word)) && (
      SELECT array_agg(l.lexeme) FROM unnest(CAST(:asked AS text[])) AS q, unnest(to_tsvector({language}, q)) AS l
    )
"""


class Totals(NamedTuple):
    """Records of the whole index and the terms in all of them. Counting a large table takes longer than a query, so
    they may lag: `until` when they serve, a second for every 40,000 records."""

    rows: int
    terms: int
    until: float

    @property
    def lag(self) -> float:
        return self.rows / ROWS_A_SECOND_OF_LAG


class PostgreSQLKeywords:
    def __init__(self, connections: PostgreSQLConnections, templates: Templates, tables: Tables) -> None:
        self.vocabulary = Vocabulary(tables, self._commonest)
        self.scopes = PostgreSQLScopes(templates, self._says)
        self._connections = connections
        self._templates = templates
        self._tables = tables
        self._words: Words | None = None
        self._totals: Totals | None = None

    @property
    def language(self) -> str | None:
        return self._templates.language

    def read_settings(self, connection: Connection) -> dict[str, str]:
        settings = {row.key: row.value for row in connection.execute(self._tables.meta.select())}
        language = self._templates.language = settings.get("language", self._templates.language)
        if language:
            self._words = Words(language)
        return settings

    def words(self, connection: Connection) -> Words:
        if self._words is None:
            self.read_settings(connection)
        if self._words is None:
            raise SchemaMissing("kameleon's tables are not in this database. SearchEngine(engine) makes them")
        return self._words

    def prepare_search(self, connection: Connection) -> None:
        """For this transaction alone. Plans are made for the terms at hand; compiling one costs more than it saves."""
        self.words(connection)
        self._connections.set_local(connection, "jit = off", "plan_cache_mode = force_custom_plan")

    def by_keyword(self, connection: Connection, query: str, scope: Scope, *, limit: int, enough: int) -> Candidates:
        terms, totals, unknown, is_whole = self._known_terms(connection, query)
        if not terms:
            return Candidates({}, is_exact=is_whole, unknown=unknown)
        chosen = cheapest(terms, POSTINGS)
        where, binds = self.scopes.sql(scope, "s")
        binds |= {"limit": limit, "chosen": any_of(chosen), **self.bm25_binds(chosen, totals, "chosen")}
        score = BM25.format(ones=ONES, terms="chosen_terms", weights="chosen_weights")
        if len(chosen) == len(terms):
            statement = BY_KEYWORD + ALL_CHOSEN
        else:
            statement = BY_KEYWORD + WIDER
            binds |= {"enough": enough, "any": any_of(terms), **self.bm25_binds(terms, totals, "all")}
        full = BM25.format(ones=ONES, terms="all_terms", weights="all_weights")
        asked = self._templates.text(statement, score=score, full_score=full, scope=where)
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
        times = Counter(word.lower() for word in self.words(connection).asked(analyze(query)))
        words = list(times)[:QUERY_WORDS]
        if not words:
            return [], Totals(1, 1, 0.0), (), True
        known = self._totals
        is_due = known is None or time.monotonic() > known.until
        if known is not None and is_due:
            self._totals = known._replace(until=time.monotonic() + known.lag)  # others go on with it meanwhile
        with_totals, totals = (self._templates.format(WITH_TOTALS), TOTALS) if is_due else ("", "")
        statement = self._templates.text(TERMS, quoted=QUOTED, with_totals=with_totals, totals=totals)
        found = connection.execute(statement, {"words": words, "times": [times[word] for word in words]}).all()
        terms = [Term(words[row.place - 1], row.lexeme, row.rows, int(row.times)) for row in found if row.rows]
        if found and is_due:
            known = Totals(found[0].all_rows, int(found[0].all_terms or 0), time.monotonic())
            known = known._replace(until=known.until + known.lag)
            if known.rows > ALWAYS_COUNTED and not connection.info.get(PRESERVED):
                self._totals = known
        there = {place for row in found if row.rows for place in row.places}
        missing = {place for row in found for place in row.places} - there
        unknown = tuple(words[place - 1] for place in sorted(missing))
        return terms, known or Totals(1, 1, 0.0), unknown, len(times) <= QUERY_WORDS

    @staticmethod
    def bm25_binds(terms: Sequence[Term], totals: Totals, name: str) -> dict[str, Any]:
        rows, length, _ = totals
        rows = max(rows, *(term.rows for term in terms), 1)
        return {
            f"{name}_terms": [quoted(term.stem) for term in terms],
            f"{name}_weights": [(K1 + 1) * weight(rows, term) for term in terms],
            "floor": K1 * (1 - B),
            "slope": K1 * B * rows / max(length, 1),
        }

    def matched_terms(
        self, connection: Connection, keys: Sequence[Key], terms: Sequence[Term]
    ) -> dict[Key, tuple[str, ...]]:
        binds = {**pairs_of(cast(Iterable[Ref], keys)), "terms": [quoted(term.stem) for term in terms]}
        found: dict[Key, tuple[str, ...]] = {}
        for entity, id_, place in connection.execute(self._templates.text(MATCHED_TERMS), binds):
            found[Ref(entity, id_)] = (*found.get(Ref(entity, id_), ()), terms[place - 1].surface)
        return found

    def count_words(self, connection: Connection, words: Sequence[str]) -> dict[str, int]:
        reader = self.words(connection)
        cut = {word: " ".join(reader.asked(word)) for word in words}
        rows = connection.execute(self._templates.text(COUNT_WORDS), {"words": list(set(cut.values()))})
        counts = {row.word: row.rows for row in rows}
        return {word: counts.get(read, 0) for word, read in cut.items()}

    def learn(self, connection: Connection, tokens: set[str]) -> None:
        self.vocabulary.learn(
            connection,
            tokens,
            lambda words: connection.execute(self._templates.text(KNOWN_WORDS), {"words": words}).scalars(),
            lambda forms: connection.execute(self._templates.text(ADD_FORMS), {"forms": forms}),
        )

    def _commonest(self, connection: Connection, prefix: str) -> list[str]:
        first = next(iter(self._words.asked(prefix)), "") if self._words else ""
        binds = {"first": first, "begins": f"'{first}':*", "sampled": SAMPLED, "most": COMMONEST_STEMS}
        return list(connection.execute(self._templates.text(COMMONEST), binds).scalars()) if first else []

    def spans(self, connection: Connection, query: str, texts: Sequence[str]) -> list[Spans]:
        words = self.words(connection)
        texts = [content[:MARKED_CHARACTERS] for content in texts]
        found = [words.places(content) for content in texts]
        distinct = list({word for read in found for _, _, word in read})
        asked = list(dict.fromkeys(words.asked(query)))[:QUERY_TERMS]
        same: set[str] = set()
        if asked and distinct:
            same.update(
                connection.execute(self._templates.text(SAME_STEM), {"words": distinct, "asked": asked}).scalars()
            )
        pairs = cjk_pairs(query)
        return [
            merge([*((start, end) for start, end, word in read if word in same), *places(content, pairs)])
            for read, content in zip(found, texts, strict=True)
        ]

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
        said = [
            self._templates.format(SAYS, words=bind(binds, words), codes=coded, verbatim=written) for words in phrases
        ]
        if runs and runs != [phrase]:
            said.append(f"s.content ~* {written}")
        return " AND ".join(said)


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
