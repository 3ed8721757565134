"""Makes rows to store, and figures to report, of what the embedding service returned for records' texts. Pure. Imports
`values`, `errors`, `forking`, `embeddings` and `stores`."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..embeddings.passages import Place, Places, passages
from ..errors import ProviderError, TextRefused
from ..forking import lazy
from ..stores.values import UNDECIDED, Embedding, Entry
from ..values import MAX_FAILURES_SHOWN, IndexReport, Ref

if TYPE_CHECKING:
    from ..embeddings.provider import Vector
    from ..embeddings.service import EmbeddingReport, EmbeddingService
    from .caching import StoredCache


@dataclass(frozen=True)
class Ahead:
    """What was embedded before a flush, when the texts existed and their records did not yet: `made` by `service`,
    nothing where that is left to a worker; of long texts their passages, as `split` has them. It took `seconds`."""

    service: "EmbeddingService"
    made: "EmbeddingReport | None" = None
    cache: "StoredCache | None" = None
    split: Places = field(default_factory=dict)
    seconds: float = 0.0

    @lazy
    def places(self) -> Mapping[str, int]:
        return {text: place for place, text in enumerate(self.made.texts)} if self.made else {}


def merged(texts: Sequence[str], before: Ahead, rest: "EmbeddingReport") -> "EmbeddingReport":
    """One report for all texts: what `before` has, then what `rest` has; an outage leaves what neither has."""
    assert before.made is not None  # noqa: S101 - it has places
    later = {text: place for place, text in enumerate(rest.texts)}
    first: dict[str, int] = {}
    embeddings: list[Vector | None] = []
    errors: list[ProviderError | None] = []
    cached: list[bool] = []
    for position, text in enumerate(texts):
        first.setdefault(text, position)
        report, place = (before.made, before.places.get(text)) if text in before.places else (rest, later.get(text))
        embeddings.append(report.embeddings[place] if place is not None else None)
        errors.append(report.errors[place] if place is not None else before.made.outage)
        cached.append(report.cached[place] if place is not None else False)
    reused = frozenset(position for position, text in enumerate(texts) if first[text] != position)
    return replace(rest, texts=texts, embeddings=embeddings, errors=errors, cached=cached, reused=reused)


def flattened(contents: Sequence[str], split: Places) -> Sequence[str]:
    """What is embedded of them: the passages of those that are split, and all others whole."""
    return [passage for content in contents for passage in passages(content, split)] if split else contents


def owners_of(texts: Collection[tuple[str, str]], split: Places) -> dict[str, set[str]]:
    """The tenants of (tenant, content), by the keys of their passages; nothing where there is no tenant."""
    from ..embeddings.cache import text_key  # NumPy loads with it

    owners: dict[str, set[str]] = {}
    for tenant, content in texts if any(tenant for tenant, _ in texts) else ():
        for passage in passages(content, split):
            owners.setdefault(text_key(passage), set()).add(tenant)
    return owners


def positions(wanted: Sequence[Entry], split: Places) -> Iterator[tuple[Entry, range]]:
    """Each entry with the positions of its passages among all that were embedded."""
    start = 0
    for entry in wanted:
        end = start + (len(split[entry.content]) if entry.content in split else 1)
        yield entry, range(start, end)
        start = end


def with_pieces(wanted: Sequence[Entry], split: Places, made: "EmbeddingReport") -> "tuple[Places, EmbeddingReport]":
    """`split` and `made` with the parts as passages, where a passage was too long and its parts were not."""
    if not any(isinstance(error, TextRefused) and error.pieces for error in made.errors):
        return split, made
    places, vectors, errors = dict(split), list[Any](), list[ProviderError | None]()
    cached, reused = list[bool](), list[int]()
    for entry, of_entry in positions(wanted, split):
        found: list[Place] = []
        whole = split.get(entry.content, (Place(0, len(entry.content)),))
        for position, (start, end) in zip(of_entry, whole, strict=True):
            error = made.errors[position]
            parts = error.pieces if isinstance(error, TextRefused) else ()
            if position in made.reused:
                reused += range(len(vectors), len(vectors) + max(1, len(parts)))
            found += [Place(start + first, start + last) for first, last, _ in parts] or [Place(start, end)]
            vectors += [vector for _, _, vector in parts] or [made.embeddings[position]]
            errors += [None] * len(parts) if parts else [error]
            cached += [made.cached[position]] * max(1, len(parts))
        if len(found) > 1:
            places[entry.content] = found
    return places, replace(made, embeddings=vectors, errors=errors, cached=cached, reused=frozenset(reused))


def embeddings(wanted: Sequence[Entry], split: Places, made: "EmbeddingReport") -> Iterable[Embedding]:
    """What there is to store: vectors, and tombstones for refused texts. An outage leaves nothing of a record."""
    if split:
        for entry, place in positions(wanted, split):
            yield from record_embeddings(entry, split, made.embeddings[slice_of(place)], made.errors[slice_of(place)])
        return
    for entry, vector, error in zip(wanted, made.embeddings, made.errors, strict=True):
        if vector is not None:
            yield Embedding(entry.ref, entry.content_hash, packed(vector))
        elif isinstance(error, TextRefused):
            yield Embedding(entry.ref, entry.content_hash, None, error.reason, storable(str(error)))


def record_embeddings(
    entry: Entry, split: Places, vectors: "Sequence[Vector | None]", errors: Sequence[ProviderError | None]
) -> Iterator[Embedding]:
    if not all(error is None or isinstance(error, TextRefused) for error in errors):
        return
    places = split.get(entry.content, ((None, None),))
    refused = first_refusal(errors)
    if refused is not None and refused.reason in UNDECIDED:
        yield Embedding(entry.ref, entry.content_hash, None, refused.reason, storable(str(refused)))
        return
    for passage, (vector, error, (start, end)) in enumerate(zip(vectors, errors, places, strict=True)):
        refusal = refused if passage == 0 else error
        reason = message = None
        if isinstance(refusal, TextRefused):
            reason, message = refusal.reason, storable(str(refusal))
        made = None if vector is None else packed(vector)
        yield Embedding(entry.ref, entry.content_hash, made, reason, message, passage, start, end)


def first_refusal(errors: Sequence[ProviderError | None]) -> TextRefused | None:
    """In the words of the record: which of its passages was refused, if it has several; first one that leaves it
    pending."""
    refused = [(passage, error) for passage, error in enumerate(errors) if isinstance(error, TextRefused)]
    for passage, error in sorted(refused, key=lambda pair: pair[1].reason not in UNDECIDED):
        if len(errors) == 1:
            return error
        return TextRefused(f"passage {passage + 1} of {len(errors)}: {error}", reason=error.reason)
    return None


def is_final(error: ProviderError) -> bool:
    """Whether a text has a tombstone for it."""
    return isinstance(error, TextRefused) and error.reason not in UNDECIDED


def slice_of(place: range) -> slice:
    return slice(place.start, place.stop)


def packed(vector: "Vector") -> bytes:
    return vector.astype("<f4", copy=False).tobytes()


def storable(message: str) -> str:
    return message[:500].encode("utf-8", "replace").decode().replace("\0", " ")


def counts(wanted: Sequence[Entry], split: Places, made: "EmbeddingReport") -> IndexReport:
    """Of records: one is failed if any of its passages was refused, and reused if no passage of it was embedded."""
    if not made.reused and not made.cache_hits and not any(made.errors):
        return IndexReport(embedded=len(wanted))
    failures: list[tuple[Ref, str]] = []
    good = reused = 0
    for entry, place in positions(wanted, split):
        errors = made.errors[slice_of(place)]
        if not any(errors):
            good += 1
            reused += all(i in made.reused or made.cached[i] for i in place)
        elif all(error is None or is_final(error) for error in errors):
            failures.append((entry.ref, str(first_refusal(errors))))
    return IndexReport(
        embedded=good - reused,
        reused=reused,
        failed=len(failures),
        pending=len(wanted) - good - len(failures),
        failures=tuple(failures[:MAX_FAILURES_SHOWN]),
        outage=str(made.outage) if made.outage else None,
    )
