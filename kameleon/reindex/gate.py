"""Scores two rankings of the same queries, and refuses a generation that ranks too differently. Pure. Imports `values`,
`errors` and `metrics`."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean

from ..errors import InvalidInput
from ..metrics import DEPTH, ndcg
from ..values import GateReport, Ref

WORDS_A_QUERY = 8
"""Bounds the words of a record that are a sampled query. Chosen, not measured."""
SHAPE = '{"query": "…", "relevant": [{"entity": "…", "id": "…", "gain": 1}]}'


@dataclass(frozen=True)
class GateQuery:
    """A query, and the gain of each record that is judged relevant to it."""

    text: str
    relevant: Mapping[Ref, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Gate:
    """The thresholds of a new generation: `overlap` is the share of the first ten hits that it has in common with the
    old, averaged over the queries; `ndcg` its nDCG@10 as a share of the old's, over the queries that have judgements.
    Without `queries`, the first words of up to 100 records are searched for."""

    overlap: float = 0.5
    ndcg: float = 0.95
    queries: Sequence[GateQuery] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 1:
            raise InvalidInput(f"overlap@10 lies between 0 and 1, not {self.overlap!r}")
        if not self.ndcg >= 0:
            raise InvalidInput(f"nDCG@10 of the new model is a share of the old one's from 0 on, not {self.ndcg!r}")

    def refusal(self, found: GateReport) -> str:
        """Why the new generation is not switched to; empty if it may be."""
        if found.overlap < self.overlap:
            return (
                f"overlap@10 is {found.overlap:.3f} over {found.queries} queries, at least {self.overlap} is required"
            )
        if found.ndcg_before is None or found.ndcg_after is None:
            return ""
        if found.ndcg_after < self.ndcg * found.ndcg_before:
            return (
                f"nDCG@10 is {found.ndcg_after:.3f} with the new model and {found.ndcg_before:.3f} with the old over "
                f"{found.judged} judged queries, at least {self.ndcg} of it is required"
            )
        return ""


Ranking = Callable[[str], Sequence[Ref]]


def compare(queries: Sequence[GateQuery], before: Ranking, after: Ranking) -> GateReport:
    """Raises InvalidInput where there are no queries."""
    if not queries:
        raise InvalidInput("the gate has no queries: give some, or index records first")
    rankings = [(query, before(query.text), after(query.text)) for query in queries]
    judged = [(query.relevant, old, new) for query, old, new in rankings if query.relevant]
    return GateReport(
        queries=len(queries),
        overlap=mean(overlap(old, new) for _, old, new in rankings),
        judged=len(judged),
        ndcg_before=mean(ndcg(old, gains) for gains, old, _ in judged) if judged else None,
        ndcg_after=mean(ndcg(new, gains) for gains, _, new in judged) if judged else None,
    )


def overlap(old: Sequence[Ref], new: Sequence[Ref]) -> float:
    """The share of the longer ranking's first ten that both have; 1 where both are empty."""
    first, second = {*old[:DEPTH]}, {*new[:DEPTH]}
    longest = max(len(first), len(second))
    return len(first & second) / longest if longest else 1.0


def sampled(contents: Iterable[str]) -> list[GateQuery]:
    """A query from the first words of each content."""
    words = (" ".join(content.split()[:WORDS_A_QUERY]) for content in contents)
    return [GateQuery(text) for text in dict.fromkeys(words) if text]


def read_queries(lines: Iterable[str]) -> list[GateQuery]:
    """Queries from JSON lines, `{"query": "…", "relevant": [{"entity": "…", "id": "…", "gain": 1}]}`; `relevant` and
    `gain` may be left out. Raises InvalidInput, naming the line."""
    return [_query(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _query(number: int, line: str) -> GateQuery:
    try:
        row = json.loads(line)
        judged = {Ref(str(j["entity"]), str(j["id"])): float(j.get("gain", 1)) for j in row.get("relevant", ())}
        text = row["query"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"line {number} is not {SHAPE}: {error!r:.80}") from error
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(f"line {number} has no query")
    return GateQuery(text, judged)
