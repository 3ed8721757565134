"""The terms of `keyword_search="server"` in PostgreSQL: a tsvector of the analyser's terms for each record, and its GIN
index. Imports `values`, `errors` and `analysis`.

A tsvector has positions up to 16,383, the first 255 of a term, and 1 MB in all. Terms beyond the positions are found
and are in no phrase; terms beyond the size are left out, which is logged.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection

from ...analysis.terms import PhrasePart
from ...errors import InvalidInput
from ...values import Ref, Tenants
from ..search_protocols import EXCLUDING, PREFIX, Phrased, TermCounts, TermQuery, TermsRow
from ..tables import parts
from ..values import Scope, bound
from .rows import by_key
from .scope import PostgreSQLScopes
from .templates import Templates

log = logging.getLogger("kameleon.keywords")

MOST_POSITION, MOST_PLACES, MOST_BYTES = 16_383, 255, 2**20 - 1
"""Bound the positions of a tsvector, those of one term, and the bytes of all terms: PostgreSQL's limits."""
MOST_EMPHASIZED = 1_000
"""Bounds the emphasized occurrences of a record that count again. Chosen, not measured."""
COUNTED, ALL_COUNTED = 5_000, 2**31 - 1
"""Bounds the records that are counted for a clause, and those of a partition; beyond, the statistics of ANALYZE count,
which are of the whole table: so those of named tenants are all counted. Chosen, not measured."""
FOUND = 5_000
"""Bounds the records that each condition of a query finds. Chosen, not measured."""
EXCLUDED = 100_000
"""Bounds the records that a query may exclude. Chosen, not measured."""
TEXT_CHARACTERS = 10_000
"""Bounds how much of a content is read for completions. Chosen, not measured."""
ROWS_A_STATEMENT = 500
NONE: Phrased = {}

# Emphasized terms have weight A.
CREATE = (
    """
    CREATE TABLE IF NOT EXISTS {terms} (
      tenant text COLLATE "C" NOT NULL,
      entity_name text COLLATE "C" NOT NULL,
      record_id text COLLATE "C" NOT NULL,
      doc bigint NOT NULL,
      length integer NOT NULL,
      terms tsvector NOT NULL,
      PRIMARY KEY (tenant, entity_name, record_id)
    )
    """,
    "CREATE INDEX IF NOT EXISTS kdb_terms_terms ON {terms} USING gin (terms)",
    "CREATE INDEX IF NOT EXISTS kdb_terms_doc ON {terms} (doc)",
)
WRITE = """
    INSERT INTO {terms} AS t (tenant, entity_name, record_id, doc, length, terms)
    SELECT g.tenant, g.entity_name, g.record_id, g.doc, g.length, CAST(g.terms AS tsvector)
    FROM unnest(CAST(%s AS text[]), CAST(%s AS text[]), CAST(%s AS text[]), CAST(%s AS bigint[]),
      CAST(%s AS integer[]), CAST(%s AS text[])) AS g(entity_name, record_id, tenant, doc, length, terms)
    ON CONFLICT (tenant, entity_name, record_id)
    DO UPDATE SET doc = excluded.doc, length = excluded.length, terms = excluded.terms
"""
DELETE = "DELETE FROM {terms} AS s WHERE {s_in_keys}"
# ANALYZE has the terms that most records have, with their shares of the table.
COUNTS = """
    WITH statistics AS MATERIALIZED (
      SELECT c.reltuples, s.most_common_elems, s.most_common_elem_freqs
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        LEFT JOIN pg_stats AS s
          ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = 'terms' AND NOT s.inherited
      WHERE c.oid = to_regclass(:name)
    ), elements AS MATERIALIZED (
      SELECT e.term, e.share, reltuples FROM statistics CROSS JOIN LATERAL unnest(
        CAST(CAST(most_common_elems AS text) AS text[]), most_common_elem_freqs) AS e(term, share)
    )
    SELECT -1 AS number, count(*) AS n, coalesce(avg(length), 0) AS figure, (SELECT reltuples FROM statistics) AS total
    FROM (SELECT s.length FROM {terms} AS s WHERE {scope} LIMIT :most) AS sampled
"""
COUNT = """
    UNION ALL SELECT %(number)s, CASE WHEN total >= :most THEN :most ELSE (
        SELECT count(*) FROM (
          SELECT 1 FROM {terms} AS s WHERE {scope} AND s.terms @@ CAST(:query_%(number)s AS tsquery) LIMIT :most
        ) AS counted) END, share, total
    FROM (
      SELECT coalesce(max(share), 0) AS share, coalesce(max(share * reltuples), 0) AS total
      FROM elements WHERE term = ANY(:terms_%(number)s)
    ) AS e
"""
FIND = """
    WITH found AS MATERIALIZED (%s)
    SELECT f.branch, f.doc, f.entity_name, f.length, w.lexeme, coalesce(cardinality(w.positions), 1),
      CASE WHEN w.lexeme = ANY(CAST(:placed AS text[])) THEN ARRAY(
        SELECT CASE WHEN p.weight = 'A' THEN 0 ELSE p.place END
        FROM unnest(w.positions, w.weights) AS p(place, weight)) END
    FROM found AS f LEFT JOIN LATERAL unnest(f.terms) AS w
      ON w.lexeme = ANY(:terms) OR w.lexeme ^@ ANY(CAST(:prefixes AS text[]))
"""
BRANCH = """(
      SELECT %s AS branch, s.doc, s.entity_name, s.length, %s AS terms FROM {terms} AS s
      WHERE {scope} AND %s LIMIT :most_%s
    )"""
TEXTS = """
    SELECT c.doc, left(c.content, :most) FROM {terms} AS s JOIN {search} AS c
      ON c.tenant = s.tenant AND c.entity_name = s.entity_name AND c.record_id = s.record_id
    WHERE {scope} AND s.terms @@ CAST(:query AS tsquery) LIMIT :limit
"""


@dataclass(eq=False)
class PostgreSQLTerms:
    _templates: Templates
    _scopes: PostgreSQLScopes

    def write(self, connection: Connection, rows: Sequence[TermsRow]) -> None:
        """In the order of the keys: two writers in other orders could deadlock."""
        statement = self._templates.format(WRITE)
        for part in parts(sorted(rows, key=lambda row: row.ref.key), ROWS_A_STATEMENT):
            columns = zip(*((*row.ref, row.doc, row.length, vector(row)) for row in part), strict=True)
            connection.exec_driver_sql(statement, tuple(map(list, columns)))

    def delete(self, connection: Connection, refs: Sequence[Ref]) -> None:
        by_key(connection, self._templates.format(DELETE), refs)

    def counts(
        self,
        connection: Connection,
        tenants: Tenants,
        entities: Sequence[str],
        clauses: Sequence[Sequence[str]],
        phrased: Phrased = NONE,
    ) -> TermCounts:
        scope, binds = self._scopes.sql(Scope(tuple(entities), tenants=tenants), "s")
        most = COUNTED if tenants is None or not any(tenants) else ALL_COUNTED
        binds |= {"name": self._templates.names["terms"], "most": most}
        for number, terms in enumerate(clauses):
            binds |= {f"query_{number}": any_of(terms, phrased), f"terms_{number}": list(terms)}
        template = COUNTS + "".join(COUNT % {"number": number} for number in range(len(clauses)))
        rows = connection.execute(self._templates.text(template, scope=scope), binds).all()
        (_, records, length, total), *counted = sorted(rows)
        is_exact = records < most
        total = records if is_exact else max(records, int(total))
        df = [n if n < most else min(total, max(n, int(share * total))) for _, n, share, _ in counted]
        return TermCounts(total, float(length), df, is_exact)

    def find(self, connection: Connection, scope: Scope, query: TermQuery) -> tuple[Sequence[Sequence[Any]], bool]:
        where, binds = self._scopes.sql(scope, "s")
        branches, queries = branches_of(query)
        if not branches:
            return [], True
        prefixes = [term.removesuffix(PREFIX) for term in query.terms if term.endswith(PREFIX)]
        binds |= {"terms": list(query.terms), "prefixes": prefixes, "placed": list(query.placed), **queries}
        template = FIND % "\n    UNION ALL ".join(branches)
        statement, binds = bound(self._templates.text(template, scope=where), binds)
        rows = connection.execute(statement, binds).all()
        found = Counter(branch for branch, _ in {(row[0], row[1]) for row in rows})
        if found[EXCLUDING] > EXCLUDED:
            raise InvalidInput(
                f"the words with - exclude more than {EXCLUDED:,} records, which keyword_search='server' does not look "
                "up. Leave the commonest out, or narrow the search with where="
            )
        is_whole = all(n <= FOUND for branch, n in found.items() if branch != EXCLUDING)
        return rows, is_whole

    def texts(
        self, connection: Connection, tenants: Tenants, entities: Sequence[str], terms: Sequence[str], limit: int
    ) -> dict[int, str]:
        scope, binds = self._scopes.sql(Scope(tuple(entities), tenants=tenants), "s")
        binds |= {"query": any_of(terms), "limit": limit, "most": TEXT_CHARACTERS}
        rows = connection.execute(self._templates.text(TEXTS, scope=scope), binds)
        return {row[0]: row[1] for row in rows}


def branches_of(query: TermQuery) -> tuple[list[str], dict[str, Any]]:
    """Renders the searches of a query, each with its own limit, and their binds."""
    queries = (
        [any_of(query.rarest, query.phrased), all_of(query.clauses, query.phrased)]
        if not query.phrases
        else [" & ".join(map(phrase_of, query.phrases))]
    )
    conditions = {n: f"s.terms @@ CAST(:query_{n} AS tsquery)" for n, text in enumerate(queries) if text}
    binds: dict[str, Any] = {f"query_{n}": queries[n] for n in conditions}
    binds |= {f"most_{n}": FOUND + 1 for n in conditions}
    if query.docs is not None:
        conditions = {0: "s.doc = ANY(:docs)"}
        binds = {"docs": list(query.docs), "most_0": len(query.docs)}
    excluded = " | ".join(map(phrase_of, query.excluded))
    branches = [
        BRANCH % (n, "s.terms", condition + " AND NOT s.terms @@ CAST(:excluded AS tsquery)" * bool(excluded), n)
        for n, condition in conditions.items()
    ]
    if excluded:
        binds |= {"excluded": excluded, f"most_{EXCLUDING}": EXCLUDED + 1}
        of_excluded = "s.terms @@ CAST(:excluded AS tsquery)"
        branches.append(BRANCH % (EXCLUDING, "CAST(NULL AS tsvector)", of_excluded, EXCLUDING))
    return branches, binds


# tsquery and tsvector as text: every term is quoted, so none is read as an operator.


def quoted(term: str) -> str:
    return "'" + term.replace("\\", "\\\\").replace("'", "''") + "'"


def operand(term: str, weight: str = "") -> str:
    if term.endswith(PREFIX):
        return f"{quoted(term.removesuffix(PREFIX))}:*{weight}"
    return quoted(term) + (f":{weight}" if weight else "")


def any_of(terms: Iterable[str], phrased: Phrased = NONE, weight: str = "") -> str:
    return " | ".join(phrase_of(phrased[term]) if term in phrased else operand(term, weight) for term in terms)


def all_of(clauses: Iterable[Sequence[str]], phrased: Phrased) -> str:
    return " & ".join(f"({any_of(terms, phrased)})" for terms in clauses)


def phrase_of(ways: Iterable[Sequence[PhrasePart]]) -> str:
    return f"({' | '.join(map(way_of, ways))})"


def way_of(phrase: Sequence[PhrasePart]) -> str:
    """Emphasized terms, whose weight is A, are in no phrase of several words."""
    if len(phrase) == 1:
        return f"({any_of(phrase[0].terms)})"
    rendered = f"({any_of(phrase[0].terms, weight='D')})"
    for before, part in pairwise(phrase):
        rendered += f" <{part.position - before.position}> ({any_of(part.terms, weight='D')})"
    return f"({rendered})"


def vector(row: TermsRow) -> str:
    """Renders the tsvector of a record."""
    places: dict[str, list[str]] = defaultdict(list)
    for term, position in zip(row.terms.terms, row.terms.positions, strict=True):
        own = places[term]
        if position < MOST_POSITION:
            own.append(str(position + 1))
    for number, term in enumerate(row.emphasis.terms[:MOST_EMPHASIZED] if row.emphasis else ()):
        places[term].append(f"{MOST_POSITION - number}A")
    rendered: list[str] = []
    size = 0
    for term, own in places.items():
        size += len(term.encode()) + 2 * min(len(own), MOST_PLACES) + 4
        if size > MOST_BYTES:
            log.warning("%s has over 1 MB of terms: %d of %d are indexed", row.ref, len(rendered), len(places))
            break
        rendered.append(quoted(term) + (":" + ",".join(own) if own else ""))
    return " ".join(rendered)
