"""Compares the hits of two generations before the index is switched from one to the other. Imports `values`, `errors`,
`stores`, `indexing` and `search`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ..errors import GateRefused, ReindexRefused
from ..indexing.index import Index
from ..search.prepared import prepare
from ..search.query import make_query
from ..stores.catalog import ACTIVE
from ..values import GateReport, Generation, IndexReport, Ref
from .gate import Gate, compare, sampled

GATE_QUERIES = 100
"""Bounds the records whose first words are the queries of a gate that has none. Chosen, not measured."""


class Comparison:
    """`renew` is called before each query: it keeps the run's lease, and may end the run."""

    def __init__(self, index: Index, before: Generation, after: Generation, renew: Callable[[], None]) -> None:
        self._index = index
        self._store = index.store
        self._before = before
        self._after = after
        self._renew = renew

    def check_has_vectors(self, made: IndexReport) -> None:
        """Raises ReindexRefused for a model that refused every text: it would take the vectors from a search that has
        some."""
        if made.embedded or made.reused or self._count_vectors(self._after) or not self._count_vectors(self._before):
            return
        reason = made.failures[0][1] if made.failures else "an earlier run was refused"
        raise ReindexRefused(
            f"{self._after.model_name} refused every text, so generation {self._after.number} is not switched to: "
            f"{reason}. `kameleon embeddings prune` drops it, then reindex once the model answers"
        )

    def check_gate(self, gate: Gate) -> GateReport:
        """Raises GateRefused where the new generation is below the gate's thresholds."""
        report = compare(
            gate.queries or sampled(self._samples()), self._ranking(self._before), self._ranking(self._after)
        )
        if refusal := gate.refusal(report):
            raise GateRefused(
                f"generation {self._after.number} ({self._after.model_name}) is built and not switched to: {refusal}. "
                "`kameleon embeddings reindex` without --gate switches to it, `kameleon embeddings prune` drops it"
            )
        return report

    def _count_vectors(self, generation: Generation) -> int:
        with self._index.reading() as conn:
            texts = self._store.embeddings.status(conn, None, has_provider=True)
            found = self._store.embeddings.status(conn, generation, has_provider=True)
        return sum(one.pending for one in texts) - sum(one.pending + one.failed for one in found)

    def _samples(self) -> Iterable[str]:
        """Contents of records from all over the index."""
        with self._index.reading() as conn:
            rows = sum(status.indexed for status in self._store.embeddings.status(conn, None, has_provider=False))
            for after in [None, *self._store.embeddings.bounds(conn, max(1, rows // GATE_QUERIES))]:
                found, _ = self._store.embeddings.pending(conn, None, after=after, limit=1)
                yield from (entry.content for entry in found)

    def _ranking(self, generation: Generation) -> Callable[[str], Sequence[Ref]]:
        from ..search.retrieval import Retriever  # NumPy loads with the first search

        service = self._index.services.of_generation(generation)
        alone = [replace(generation, state=ACTIVE)]

        def ranking(text: str) -> Sequence[Ref]:
            self._renew()
            query = make_query(text)
            retriever = Retriever(self._index, query, prepare(query, alone, service), {})
            with self._index.reading() as conn:
                hits = retriever.page(conn, retriever.find(conn)).hits
            return [Ref(hit.entity, hit.id) for hit in hits]

        return ranking
