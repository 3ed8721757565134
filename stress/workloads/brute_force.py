"""BM25 of each text of an index without an index, and the comparison of the keyword index with it."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from sqlalchemy import Connection, text

from kameleon import SearchEngine
from kameleon.analysis.analyser import Analyser
from kameleon.keywords.looking_up import Wanted, clauses
from kameleon.stores.bm25 import K1, B, idf, times_weight
from kameleon.stores.values import Scope

ALL = 1_000_000
DOCS = {
    "sqlite": "SELECT id, entity_name, record_id FROM kdb_search",
    "postgresql": "SELECT doc, entity_name, record_id FROM kdb_search",
}

Id = tuple[str, str]


def scores(contents: Mapping[Id, str], query: str, analyser: Analyser) -> dict[Id, float]:
    """Returns the score of each text that has a word of the query."""
    analysed = {id_: analyser.terms(content) for id_, content in contents.items()}
    average = sum(terms.length for terms in analysed.values()) / max(len(analysed), 1) or 1.0
    counts = {id_: Counter(terms.terms) for id_, terms in analysed.items()}
    found: dict[Id, float] = {}
    for clause in clauses(analyser.query_terms(query)):
        times = {id_: n for id_, of in counts.items() if (n := sum(of[term] for term in clause.terms))}
        weight = times_weight(clause.times) * idf(len(counts), len(times))
        for id_, n in times.items():
            norm = K1 * (1 - B + B * analysed[id_].length / average)
            found[id_] = found.get(id_, 0.0) + weight * n * (K1 + 1) / (n + norm)
    return found


def assert_exact(search: SearchEngine, contents: Mapping[Id, str], queries: Iterable[str]) -> None:
    """Compares the keyword index with the texts that it must hold: over all entities, and in each by itself."""
    entities = {entity for entity, _ in contents}
    with search.index.reading() as connection:
        ids = ids_of(connection)
        for query in queries:
            assert_same(found_by(search, connection, ids, query, ()), scores_of(search, contents, query), query)
            for entity in entities:
                own = {id_: content for id_, content in contents.items() if id_[0] == entity}
                assert_same(found_by(search, connection, ids, query, (entity,)), scores_of(search, own, query), query)


def scores_of(search: SearchEngine, contents: Mapping[Id, str], query: str) -> dict[Id, float]:
    return scores(contents, query, search.index.keywords.analyser)


def ids_of(connection: Connection) -> dict[int, Id]:
    rows = connection.execute(text(DOCS[connection.dialect.name]))
    return {doc: (entity, id_) for doc, entity, id_ in rows}


def found_by(
    search: SearchEngine, connection: Connection, ids: Mapping[int, Id], query: str, entities: tuple[str, ...]
) -> dict[Id, float]:
    """Returns what the index finds, no word of the query corrected. A document without a record is a KeyError."""
    found = search.index.keywords.search(connection, Scope(entities), Wanted(query, literal=query))
    best = found.ranking.best(ALL)
    assert len({ids[doc] for doc, _ in best}) == len(best), "a record has two documents"
    return {ids[doc]: score for doc, score in best}


def assert_same(found: Mapping[Id, float], expected: Mapping[Id, float], query: str) -> None:
    missing, added = expected.keys() - found.keys(), found.keys() - expected.keys()
    assert not missing, f"{query!r} does not find {sorted(missing)[:3]}"
    assert not added, f"{query!r} finds {sorted(added)[:3]}"
    wanted = [expected[id_] for id_ in found]
    np.testing.assert_allclose([*found.values()], wanted, rtol=1e-5, err_msg=f"scores of {query!r}")
