"""What `reindex` would do and cost: reads the records it would embed once, writes nothing and asks no provider. Memory
is a number for each distinct text. Imports `errors`, `embeddings`, `stores` and `indexing`."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from math import ceil
from typing import TYPE_CHECKING

from ..embeddings.passages import Places
from ..errors import InvalidInput
from ..indexing.embedded import flattened
from ..stores.tables import parts
from .registry import Registry
from .request import Request, Target

if TYPE_CHECKING:
    from ..embeddings.service import EmbeddingService

RECORDS_A_PAGE = 1_000
SAMPLE = 1_000


@dataclass(frozen=True, slots=True)
class ReindexPlan:
    """What `reindex` would do. `rows` are to be embedded, `distinct` texts of them, `cached` of those are paid already;
    `batches` of `batch_size`. `tokens` are estimated from a sample, of texts that are not cached; `cost` in the price's
    currency. `embedding_s`, in seconds, is None where no rate is known.
    """

    action: str
    current_model: str | None
    current_fingerprint: str | None
    target_model: str
    target_fingerprint: str
    current_dimensions: int | None
    target_dimensions: int
    rows: int
    distinct: int
    cached: int
    batches: int
    batch_size: int
    tokens: int
    cost: float | None
    rows_per_second: float | None
    embedding_s: float | None

    @property
    def dimensions_change(self) -> bool:
        return self.current_dimensions is not None and self.current_dimensions != self.target_dimensions


@dataclass
class Texts:
    """What stands in the records, a long text as its passages. `characters` are those of texts that would be embedded;
    `sample` holds the texts of these with the least digests, which is a fair choice."""

    rows: int = 0
    cached: int = 0
    characters: int = 0
    distinct: set[int] = field(default_factory=set)
    sample: dict[int, str] = field(default_factory=dict)

    def add_sample(self, texts: dict[int, str]) -> None:
        found = self.sample | texts
        self.sample = {mark: found[mark] for mark in nsmallest(SAMPLE, found)}


def estimate(registry: Registry, target: Target, request: Request, *, rate: float | None = None) -> ReindexPlan:
    """`rate` in records a second; without one, that of an earlier run with the same model."""
    if rate is not None and not rate > 0:
        raise InvalidInput(f"rate is a number of records a second above 0, not {rate!r:.40}")
    provider, active = target.service.provider, target.active
    texts = count(registry, target, request)
    tokens = count_tokens(texts, target.service)
    price = request.price(provider)
    rate = rate or measured_rate(registry, provider.fingerprint)
    return ReindexPlan(
        action=target.action,
        current_model=active.model_name if active else None,
        current_fingerprint=active.fingerprint if active else None,
        target_model=provider.model_name,
        target_fingerprint=provider.fingerprint,
        current_dimensions=active.dimensions if active else None,
        target_dimensions=provider.dimensions,
        rows=texts.rows,
        distinct=len(texts.distinct),
        cached=texts.cached,
        batches=ceil(texts.rows / request.batch_size),
        batch_size=request.batch_size,
        tokens=tokens,
        cost=None if price is None else tokens * price / 1e6,
        rows_per_second=rate,
        embedding_s=texts.rows / rate if rate else None,
    )


# texts


def count(registry: Registry, target: Target, request: Request) -> Texts:
    texts = Texts()
    has_cache = not request.force and registry.index.services.cache(target.service) is not None
    fingerprint = target.service.provider.fingerprint
    for page in registry.building.pending(target.generation, RECORDS_A_PAGE, part=request.part):
        contents = [entry.content for entry in page if entry.content]
        split = target.service.split(contents)
        said = flattened(contents, split)
        new = {mark: text for text in said if (mark := digest(text)) not in texts.distinct}
        cached = marks_cached(registry, fingerprint, new) if has_cache else set()
        due = {mark: text for mark, text in new.items() if mark not in cached}
        texts.rows += len(page)
        texts.cached += len(cached)
        texts.distinct.update(new)
        texts.add_sample(due)
        texts.characters += sum(map(len, due.values() if has_cache else batchwise(contents, split, request.batch_size)))
    return texts


def batchwise(contents: Sequence[str], split: Places, size: int) -> Iterator[str]:
    """Without a cache a text is embedded once a batch."""
    for part in parts(contents, size):
        yield from dict.fromkeys(flattened(part, split))


def digest(text: str) -> int:
    found = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=7)
    return int.from_bytes(found.digest(), "little")


def marks_cached(registry: Registry, fingerprint: str, texts: dict[int, str]) -> set[int]:
    """Not through the cache's own `get`, which notes the use."""
    from ..embeddings.cache import text_key

    keys = {text_key(text): mark for mark, text in texts.items()}
    with registry.index.reading() as conn:
        return {
            keys[row.key]
            for row in registry.index.store.embeddings.cached(conn, fingerprint, [("", key) for key in keys])
        }


def count_tokens(texts: Texts, service: "EmbeddingService") -> int:
    """Those of the sample, scaled to all by their characters."""
    sample: Iterable[str] = texts.sample.values()
    characters = sum(map(len, sample))
    found = sum(map(service.provider.count_tokens, sample))
    return round(found * texts.characters / characters) if characters else 0


# time


def measured_rate(registry: Registry, fingerprint: str) -> float | None:
    """Of the last run with this model."""
    of_model = {made.number for made in registry.index.generations() if made.fingerprint == fingerprint}
    runs = [run for run in registry.status() if run.generation in of_model and run.rows_per_second]
    return max(runs, key=lambda run: run.updated_at).rows_per_second if runs else None
