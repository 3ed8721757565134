"""Finds the records that were judged in the index. Imports `errors`, `indexing`, `judgements`, `orm`, `search`,
`values` and `engine`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Unpack

from ..errors import InvalidInput, seen
from ..indexing.judgements import indexed
from ..judgements import Judgement
from ..orm.queries import Queries
from ..search.options import TenantOption
from ..values import ALL_TENANTS, Ref, Tenants

if TYPE_CHECKING:
    from ..engine import SearchEngine

IDS_A_READ = 500
Gains = Mapping[Ref, float]


@dataclass(frozen=True)
class Judged:
    """The gains of each query that has a relevant record in the index, and its text; `skipped` queries have none. Of
    `judged` records `unknown` are not in the index."""

    gains: Mapping[str, Gains]
    texts: Mapping[str, str]
    skipped: int
    judged: int
    unknown: int

    @property
    def counts(self) -> tuple[int, int, int, int]:
        return len(self.gains), self.skipped, self.judged, self.unknown


def judged_by(
    search: "SearchEngine",
    queries: Mapping[str, str] | None,
    qrels: Mapping[str, Mapping[str, float]] | None,
    judgements: Iterable[Judgement] | None,
    entities: Sequence[str],
    options: TenantOption,
) -> Judged:
    """By queries and qrels, by judgements, or by those that are kept with the index. Raises InvalidInput for two of
    these, and where no query has a relevant record."""
    if isinstance(entities, str):
        raise InvalidInput(f"entities is a list of names; for one, use entities=[{entities!r}]")
    if queries is not None and qrels is not None and judgements is None:
        return find_judged(search, queries, qrels, entities, options)
    if queries is not None or qrels is not None:
        raise InvalidInput("give queries and qrels, or judgements, or neither for those that are kept with the index")
    tenants, _ = search.index.part(Queries).tenants(entities, options, None)
    whose = ALL_TENANTS if tenants is None else tenants
    kept = search.judgements.list(tenant=whose, entities=entities) if judgements is None else judgements
    own = [
        one.checked()
        for one in kept
        if (not entities or one.entity in entities) and (tenants is None or one.tenant in tenants)
    ]
    return _find_kept(search, own, tenants)


def _find_kept(search: "SearchEngine", judgements: Sequence[Judgement], tenants: Tenants) -> Judged:
    refs = list(dict.fromkeys(one.ref for one in judgements))
    with search.index.reading(tenants=tenants) as connection:
        there = indexed(search.index, connection, refs)
    gains: dict[str, dict[Ref, float]] = {one.query: {} for one in judgements}
    for one in judgements:
        if one.gain > 0:
            gains[one.query][one.ref] = one.gain
    found = {query: relevant for query, relevant in gains.items() if not there.isdisjoint(relevant)}
    if not found:
        judged = f"of {len(gains)} judged queries none has a relevant record that is in the index"
        raise InvalidInput(
            f"{judged if gains else 'no query is judged'}. Judge hits as relevant: on the page of `kameleon serve "
            "--write`, by `kameleon judgements set QUERY --relevant ENTITY/ID`, or search.judgements.set(query, [hit])"
        )
    return Judged(found, {query: query for query in found}, len(gains) - len(found), len(refs), len(refs) - len(there))


def find_judged(
    search: "SearchEngine",
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, float]],
    entities: Sequence[str],
    options: TenantOption,
) -> Judged:
    """Raises InvalidInput for a gain that is no number, and where no query has a relevant record."""
    judged = dict.fromkeys(id_ for query in queries.keys() & qrels.keys() for id_ in qrels[query])
    for query in queries.keys() & qrels.keys():
        _check_gains(query, qrels[query])
    tenants, _ = search.index.part(Queries).tenants(entities, options, None)
    refs = _refs(search, list(judged), entities, tenants)
    gains = {}
    for query in queries:
        relevant = {id_: gain for id_, gain in qrels.get(query, {}).items() if gain > 0}
        if any(id_ in refs for id_ in relevant):
            gains[query] = {refs.get(id_, Ref("", id_)): gain for id_, gain in relevant.items()}
    if not gains:
        raise _nothing_judged(queries, qrels, len(judged), len(refs))
    return Judged(gains, queries, len(queries) - len(gains), len(judged), len(judged) - len(refs))


def judgements_of(
    search: "SearchEngine",
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, float]],
    *,
    entities: Sequence[str] = (),
    **options: Unpack[TenantOption],
) -> list[Judgement]:
    """Those of queries and qrels whose records are in the index, for `search.judgements.load`."""
    tenants, _ = search.index.part(Queries).tenants(entities, options, None)
    refs = _refs(search, list(dict.fromkeys(id_ for gains in qrels.values() for id_ in gains)), entities, tenants)
    return [
        Judgement(queries[query], ref.entity, ref.id, gain, ref.tenant)
        for query, gains in qrels.items()
        if query in queries
        for id_, gain in gains.items()
        if (ref := refs.get(id_)) is not None
    ]


def _check_gains(query: str, gains: Mapping[str, object]) -> None:
    for id_, gain in gains.items():
        if not isinstance(gain, int | float) or not isfinite(gain):
            raise InvalidInput(
                f"the gain of {id_!r:.80} for query {query!r:.80} is a number such as 1, not {seen(gain)}"
            )


def _nothing_judged(queries: Iterable[str], qrels: Iterable[str], judged: int, indexed: int) -> InvalidInput:
    count = len(list(queries))
    if not judged:
        return InvalidInput(
            f"none of the {count} queries is judged: the qrels judge {_some(qrels)}, the queries are {_some(queries)}. "
            "The ids of both have to be the same"
        )
    return InvalidInput(
        f"none of the {count} queries has a relevant record that is in the index: of {judged} judged records "
        f"{judged - indexed} are not in it. Are the ids of the qrels those of the records?"
    )


def _some(ids: Iterable[str]) -> str:
    return ", ".join(f"{id_!r:.40}" for id_ in islice(ids, 3)) + ", …"


def _refs(search: "SearchEngine", ids: Sequence[str], entities: Sequence[str], tenants: Tenants) -> dict[str, Ref]:
    """The records of these tenants that are in the index, by how they were judged."""
    given = ALL_TENANTS if tenants is None else tenants
    names = list(entities) or [status.entity for status in search.get_status(tenant=given)]
    found: dict[str, Ref] = {}
    rest = iter(ids)
    while part := list(islice(rest, IDS_A_READ)):
        possible = {id_: [*_spelled(id_, names), *(Ref(name, id_) for name in names)] for id_ in part}
        with search.index.reading(tenants=tenants) as connection:
            every = list(dict.fromkeys(ref for refs in possible.values() for ref in refs))
            there: dict[Ref, list[Ref]] = {}
            for ref, _ in search.index.store.contents.located(connection, every, None):
                if tenants is None or ref.tenant in tenants:
                    there.setdefault(Ref(ref.entity, ref.id), []).append(ref)
        for id_, refs in possible.items():
            held = [found for ref in refs for found in there.get(ref, ())]
            if len(held) > 1:
                several = " or ".join(f"{ref.entity}/{ref.id} {ref.tenant}".rstrip() for ref in held)
                raise InvalidInput(
                    f"the qrels judge {id_!r:.80}, which may be {several}. Write it so, or name one entity "
                    "and one tenant"
                )
            if held:
                found[id_] = held[0]
    return found


def _spelled(id_: str, names: Sequence[str]) -> list[Ref]:
    entity, slash, rest = id_.partition("/")
    return [Ref(entity, rest)] if slash and rest and entity in names else []
