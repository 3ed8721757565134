"""Names the records of a ranking, and orders those of equal scores. Imports `values` and `stores`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from sqlalchemy import Connection

from ..stores.protocols import Store
from ..stores.values import Key
from ..values import Ref
from .presenting import read_texts
from .query import Query
from .ranking import Ranked

TIED = 100
"""Bounds the records of a score whose contents are read to find exact forms. Chosen, not measured."""
READ_CHARACTERS = 100_000
"""Bounds the contents that are analysed for that. Chosen, not measured."""


def named(store: Store, connection: Connection, query: Query, ranked: Ranked) -> tuple[Ranked, bool]:
    """The ranking with the records' entities and ids, in whose order equal scores are; and whether none of its contents
    is gone. Where the first page or what is reranked is all that these are needed for, they come with its contents."""
    ranking = ranked.ranking
    keys, places = ranking.keys, ranking.places
    first = keys[: query.window if query.rerank else query.limit]
    tied = list(takewhile(lambda key: places[key] == places[first[-1]], keys[len(first) :]))
    if len(tied) <= TIED and not needs_all(query):
        page = [*first, *tied]
        texts = read_texts(store, connection, query, page, ranked.found)
        if len(texts) == len(page):
            refs = {key: texts[key].ref for key in page}
            page.sort(key=lambda key: (places[key], refs[key]))
            ranking = replace(ranking, keys=[*page, *keys[len(page) :]], refs=refs)
            return replace(ranked, ranking=ranking, texts=texts), True
    refs = read_refs(store, connection, query, keys)
    present = [key for key in keys if key in refs and refs[key] != query.like]
    present.sort(key=lambda key: (places[key], refs[key]))
    return replace(ranked, ranking=replace(ranking, keys=present, refs=refs)), len(refs) == len(keys)


def read_refs(store: Store, connection: Connection, query: Query, keys: Sequence[Key]) -> dict[Key, Ref]:
    """The refs of contents, without those of tenants that the query does not name, which a damaged index may rank."""
    return {key: ref for key, ref in store.contents.refs(connection, keys).items() if query.is_of_tenants(ref)}


def needs_all(query: Query) -> bool:
    pages = () if query.rerank else (query.shown, query.offset)
    options = (*pages, query.sort, query.group_by, query.like, query.diversity, query.limit_by)
    return any(map(bool, options))


def exact_first(store: Store, connection: Connection, query: Query, ranked: Ranked) -> Ranked:
    """The ranking with its page's contents; of equal scores first what has the query's words as they are typed. What a
    reranker scored is read again, in the transaction of the page."""
    ranking, found = ranked.ranking, ranked.found
    page = ranking.page(query, ranking.left(query))
    if query.rerank is not None:
        return replace(ranked, texts=read_texts(store, connection, query, page, found))
    if not page:
        return ranked
    tied = [] if query.sort or found.words is None else _tied(ranking.keys, ranking.places, page)
    texts = ranked.texts
    if not texts:
        texts = read_texts(store, connection, query, list(dict.fromkeys([*page, *tied])), found)
        ranked = replace(ranked, texts=texts)
    tied = [key for key in tied if key in texts]
    if found.words is None or not tied or sum(len(texts[key].content) for key in tied) > READ_CHARACTERS:
        return ranked
    exact = {key: found.words.exactness(texts[key].content) for key in tied}
    keys = sorted(ranking.keys, key=lambda key: (ranking.places[key], -exact.get(key, 0)))
    return replace(ranked, ranking=replace(ranking, keys=keys))


def _tied(keys: Sequence[Key], places: Mapping[Key, int], page: Sequence[Key]) -> list[Key]:
    """Those of the places of a page that several have, but for places that many have."""
    groups: dict[int, list[Key]] = {places[key]: [] for key in page}
    for key in keys:
        if places[key] in groups:
            groups[places[key]].append(key)
    return [key for group in groups.values() if 1 < len(group) <= TIED for key in group]
