"""Measures how well an index answers judged queries, and which weight of the vector answers them best. Imports
`values`, `errors`, `metrics`, `search`, `orm` and `engine`.

Each query is embedded once and its legs run once; they are then fused in memory as often as there are ways and weights.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Unpack

from .errors import InvalidInput
from .metrics import ndcg, recall, reciprocal_rank
from .orm.queries import Queries
from .search.fusion import WAYS, Leg, fuse, matching, reduced_weight, set_weights
from .search.query import TenantOption
from .values import ALL_TENANTS, Generation, Ref, Tenants

if TYPE_CHECKING:
    from .engine import SearchEngine
    from .search.retrieval import Legs

STEPS = 20
DEPTH = 100
"""Bounds the hits of a query, as recall@100 does."""
ENOUGH_QUERIES = 10
"""Bounds the judged queries for keeping a weight. Chosen, not measured."""
IDS_A_READ = 500
MAX_GAIN = 1e9
QUERY, JUDGEMENT = '{"_id": "…", "text": "…"}', "query-id, corpus-id and score, separated by tabs"


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over the judged queries: nDCG@10 with linear gain, recall@100, and the reciprocal rank of the first
    relevant among 100."""

    ndcg: float
    recall: float
    mrr: float


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    `queries` were searched; `skipped` have no relevant record judged, or none that is in the index. Of `judged` records
    `unknown` are not in the index; they count as not found. `figures` by what was searched: keyword, vector where the
    index has a model, and each way of fusing at `weight`, the generation's; `curve` is nDCG@10 of the weighted fusion
    by weight, and `best` the weight where it is highest, the nearest to the current of several. Both are of what
    `set_weight` would do: as in every search without `weight=`, the vector counts for less where the model's
    vocabulary lacks a query's words, so that `search(weight=w)`, which lowers nothing, may differ from the
    curve at w. `gain` is by how much `best` is better than `weight`, `noise` two standard errors of that, query by
    query. `notes` are those of the searches.
    """

    queries: int
    skipped: int
    judged: int
    unknown: int
    figures: Mapping[str, Figures]
    generation: Generation | None = None
    weight: float | None = None
    best: float | None = None
    curve: Mapping[float, float] | None = None
    gain: float = 0.0
    noise: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def objection(self) -> str | None:
        """Why `best` is not worth keeping; None where it is."""
        if self.best is None or self.weight is None:
            return "no vector was searched, so there is no weight to keep"
        if self.queries < ENOUGH_QUERIES:
            return f"{self.queries} judged queries prove too little of others; it takes {ENOUGH_QUERIES}"
        if self.best == self.weight:
            return "it is the index's already"
        if self.gain <= self.noise:
            return f"nDCG@10 is {self.gain:.4f} higher by it, which chance alone may do ({self.noise:.4f})"
        return None


Gains = Mapping[Ref, float]


def evaluate(
    search: "SearchEngine",
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, float]],
    *,
    entities: Sequence[str] = (),
    **options: Unpack[TenantOption],
) -> Evaluation:
    """`queries` are texts by id, `qrels` the gains of records by query: a record by its id, or as `entity/id` where
    several entities have that id. `tenant` as in `search`. Raises InvalidInput where no query has a relevant record."""
    if isinstance(entities, str):
        raise InvalidInput(f"entities is a list of names; for one, use entities=[{entities!r}]")
    judged = dict.fromkeys(id_ for query in queries.keys() & qrels.keys() for id_ in qrels[query])
    tenants, _ = search.index.part(Queries).tenants(entities, options, None)
    refs = _refs(search, list(judged), entities, tenants)
    answers = list(_answers(search, queries, qrels, refs, entities, options))
    if not answers:
        raise _nothing_judged(queries, qrels, len(judged), len(refs))
    counts = (len(answers), len(queries) - len(answers), len(judged), len(judged) - len(refs))
    notes = tuple(dict.fromkeys(legs.note for legs, _ in answers if legs.note))
    generation = next((legs.generation for legs, _ in answers if legs.generation is not None), None)
    figures = {"keyword": _figures((_alone(legs, "keyword"), gains) for legs, gains in answers)}
    if generation is None:
        return Evaluation(*counts, figures, notes=notes)
    weight = generation.weight
    figures["vector"] = _figures((_alone(legs, "vector"), gains) for legs, gains in answers)
    for way in WAYS:
        figures[way] = _figures((_fused(legs, weight, way), gains) for legs, gains in answers)
    grid = [step / STEPS for step in range(STEPS + 1)]
    singly = {at: [ndcg(_fused(legs, at), gains) for legs, gains in answers] for at in {*grid, weight}}
    curve = {at: fmean(singly[at]) for at in grid}
    best = best_weight(curve, weight)
    gain, noise = _gain(singly[weight], singly[best])
    return Evaluation(*counts, figures, generation, weight, best, curve, gain, noise, notes)


def _answers(
    search: "SearchEngine",
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, float]],
    refs: Mapping[str, Ref],
    entities: Sequence[str],
    options: TenantOption,
) -> Iterator[tuple["Legs", Gains]]:
    """The legs of each query with a relevant record that is in the index, and its gains."""
    for query, text in queries.items():
        relevant = {id_: gain for id_, gain in qrels.get(query, {}).items() if gain > 0}
        if any(id_ in refs for id_ in relevant):
            gains = {refs.get(id_, Ref("", id_)): gain for id_, gain in relevant.items()}
            yield search.admin.legs(text, entities=entities, limit=DEPTH, **options), gains


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


def _gain(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Of the same queries: the mean difference, and two standard errors of it."""
    gains = [new - old for old, new in zip(before, after, strict=True)]
    return fmean(gains), 2 * stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0


def best_weight(curve: Mapping[float, float], current: float) -> float:
    """Where the curve is highest; of several such places the nearest to the current weight, the lower of two."""
    return max(curve, key=lambda weight: (round(curve[weight], 9), -round(abs(weight - current), 9), -weight))


def read_queries(lines: Iterable[str], name: str = "queries") -> dict[str, str]:
    """Texts by id from JSON lines. Raises InvalidInput, naming the line."""
    queries: dict[str, str] = {}
    for number, line in _numbered(lines, name):
        try:
            query = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{name}:{number} is not {QUERY}: it is not JSON: {line.strip()!r:.80}") from error
        if not isinstance(query, dict) or not {"_id", "text"} <= query.keys():
            seen = f"it has {', '.join(map(repr, query)) or 'nothing'}" if isinstance(query, dict) else repr(query)
            raise InvalidInput(f"{name}:{number} is not {QUERY}: {seen:.80}")
        id_, text = query["_id"], query["text"]
        if isinstance(id_, bool) or not isinstance(id_, str | int) or id_ == "":
            raise InvalidInput(f"{name}:{number} is not {QUERY}: _id is {id_!r:.80}")
        if not isinstance(text, str) or not text.strip():
            raise InvalidInput(f"{name}:{number} is not {QUERY}: text is {text!r:.80}")
        if str(id_) in queries:
            raise InvalidInput(f"{name}:{number}: query {id_!r:.80} is in a line above, too")
        queries[str(id_)] = text
    if not queries:
        raise InvalidInput(f"{name} has no queries: one a line, {QUERY}")
    return queries


def read_qrels(lines: Iterable[str], name: str = "qrels") -> dict[str, dict[str, float]]:
    """Gains by query and record from lines of three columns, below a header or not; negative ones are 0. Raises
    InvalidInput, naming the line."""
    qrels: dict[str, dict[str, float]] = {}
    for number, line in _numbered(lines, name):
        parts = line.rstrip("\r\n").split("\t")
        if number == 1 and parts[-1].strip() == "score":
            continue
        try:
            query, record, score = (part.strip() for part in parts)
            gain = float(score)
        except ValueError:
            query = record = ""
        if not (query and record and abs(gain) <= MAX_GAIN):
            raise InvalidInput(f"{name}:{number} is not {JUDGEMENT}: {line.strip()!r:.80}")
        qrels.setdefault(query, {})[record] = max(0.0, gain)
    if not qrels:
        raise InvalidInput(f"{name} judges nothing: one record a line, {JUDGEMENT}")
    return qrels


def _numbered(lines: Iterable[str], name: str) -> Iterator[tuple[int, str]]:
    try:
        yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8: {error.reason}") from error


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
        with search.index.reading() as connection:
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


def _figures(answers: Iterable[tuple[Sequence[Ref], Gains]]) -> Figures:
    measured = [(ndcg(r, gains), recall(r, gains), reciprocal_rank(r, gains)) for r, gains in answers]
    return Figures(*(fmean(column) for column in zip(*measured, strict=True)))


def _alone(legs: "Legs", name: str) -> list[Ref]:
    return _ranked([Leg(leg.name, leg.chosen, {}, 1.0, leg.most) for leg in legs.legs if leg.name == name])


def _fused(legs: "Legs", weight: float, way: str = "weighted") -> list[Ref]:
    fused = set_weights(legs.legs, reduced_weight(weight, legs.known_share))
    members = matching(fused)
    return [ref for ref in _ranked(fused, way) if ref in members]


def _ranked(legs: Sequence[Leg[Any]], way: str = "weighted") -> list[Ref]:
    scores = fuse(legs, way)
    return sorted(scores, key=lambda ref: (-scores[ref], ref))
