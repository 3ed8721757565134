"""The caller's own embeddings of records: checks them, and compares them with what is stored. Imports `values`,
`errors`, `embeddings` and `stores`."""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..embeddings.passages import MAX_PASSAGES
from ..errors import InvalidInput, InvalidRecord, ModelMismatch, NoProvider, TextRefused, seen
from ..stores.catalog import mismatch
from ..stores.values import Embedding, Entry
from ..values import Generation, Noise, Ref

if TYPE_CHECKING:
    from ..embeddings.provider import EmbeddingProvider
    from .index import Index

MAX_FLOAT32 = 2_000
"""Dimensions above which PostgreSQL stores float16: what is read there is not what was written to the last digit."""
FLOAT16, FLOAT32 = 1e-3, 1e-6
"""Bound how far a stored number may be from the one that was given, relatively and absolutely."""


@dataclass(frozen=True)
class Given:
    """Embeddings by ref, as the caller gave them, with the positions of their records. What is not in it is left
    pending. An embedding is a vector, or a list of passages of a long text: mappings of `start`, `end`, `embedding`."""

    embeddings: Mapping[Ref, Any]
    positions: Mapping[Ref, int]

    @property
    def dimensions(self) -> int | None:
        """Of the first one, 1 of what is no vector, which then is refused as such; None where there is none."""
        for found in self.embeddings.values():
            first = found[0].get("embedding") if is_of_passages(found) else found
            is_vector = hasattr(first, "__len__") and not isinstance(first, str | bytes | Mapping)
            return max(1, len(first)) if is_vector else 1
        return None

    def checked(self, entry: Entry, provider: "EmbeddingProvider") -> list[Embedding]:
        """The rows to store of an entry. Raises InvalidRecord with its position."""
        try:
            return list(_rows(entry, self.embeddings[entry.ref], int(provider.dimensions)))
        except (TextRefused, InvalidRecord) as error:
            message = f"the embedding of {entry.ref.entity} {entry.ref.id!r:.80} cannot be stored: {error}"
            raise InvalidRecord(message, position=self.positions[entry.ref]) from error


def given_embeddings(
    refs: Sequence[Ref], embeddings: Iterable[Any] | None, *, first_wins: bool = False
) -> Given | None:
    """The embeddings by the refs of their records, of several of one ref the last, or the first. None where the caller
    gave no list. Raises InvalidInput where there is not one a record."""
    if embeddings is None:
        return None
    if isinstance(embeddings, str | bytes | Mapping) or not isinstance(embeddings, Iterable):
        raise InvalidInput(f"embeddings is a list, one a record, not {seen(embeddings)}")
    listed = list(embeddings)
    if len(listed) != len(refs):
        raise InvalidInput(f"embeddings has {len(listed)} places for {len(refs)} records: one each, None for none")
    found: dict[Ref, tuple[int, Any]] = {}
    for position, (ref, embedding) in enumerate(zip(refs, listed, strict=True)):
        if not (first_wins and ref in found):
            found[ref] = position, embedding
    present = {ref: (position, embedding) for ref, (position, embedding) in found.items() if embedding is not None}
    return Given(
        {ref: embedding for ref, (_, embedding) in present.items()},
        {ref: position for ref, (position, _) in present.items()},
    )


def check_service(service: Any, generations: Sequence[Generation], reason: str) -> "EmbeddingProvider":
    """The provider whose vectors these are. Raises NoProvider and ModelMismatch where they cannot be stored."""
    if service is None:
        raise NoProvider(
            reason
            or "embeddings were given, and this engine has no provider that names their model: "
            "SearchEngine(engine, kameleon.embeddings.GivenVectors('model'))"
        )
    provider: EmbeddingProvider = service.provider
    if problem := mismatch(generations, provider):
        raise ModelMismatch(f"the embeddings that were given cannot be stored: {problem}")
    return provider


def is_of_passages(embedding: Any) -> bool:
    return isinstance(embedding, list | tuple) and bool(embedding) and isinstance(embedding[0], Mapping)


def _rows(entry: Entry, embedding: Any, dimensions: int) -> Iterable[Embedding]:
    from ..embeddings.checking import check_vector  # NumPy loads with it
    from .embedded import packed

    if not is_of_passages(embedding):
        yield Embedding(entry.ref, entry.content_hash, packed(check_vector(embedding, dimensions)))
        return
    if len(embedding) > MAX_PASSAGES:
        raise InvalidRecord(f"it has {len(embedding)} passages, and a record may have {MAX_PASSAGES}")
    for number, passage in enumerate(embedding):
        start, end = _place(passage, len(entry.content))
        vector = packed(check_vector(passage.get("embedding"), dimensions))
        yield Embedding(entry.ref, entry.content_hash, vector, None, None, number, start, end)


def _place(passage: Any, length: int) -> tuple[int, int]:
    start, end = (passage.get(name) for name in ("start", "end")) if isinstance(passage, Mapping) else (None, None)
    if type(start) is int and type(end) is int and 0 <= start < end <= length:
        return start, end
    raise InvalidRecord(
        f"a passage is {{'start': 0, 'end': 900, 'embedding': […]}}, places in a text of {length} characters, not "
        f"{seen(passage, 80)}"
    )


def sampled_noise(rows: Sequence[Embedding]) -> Noise | None:
    """The noise of a model that cannot be called: that of the first vectors, each of another record. None where
    these are too few."""
    from numpy import frombuffer  # slow to load

    from ..embeddings.noise import SENTENCES, noise_of

    vectors = [row.vector for row in rows if row.passage == 0 and row.vector is not None][: len(SENTENCES)]
    return noise_of([frombuffer(vector, "<f4") for vector in vectors])


def is_stored(rows: Sequence[Embedding], stored: Sequence[Embedding]) -> bool:
    """Whether the index has these embeddings of a record, up to the digits that it stores."""
    if [row[5:] for row in rows] != [row[5:] for row in stored]:
        return False
    return all(_are_close(one.vector, other.vector) for one, other in zip(rows, stored, strict=True))


def _are_close(one: bytes | None, other: bytes | None) -> bool:
    import numpy as np

    if one is None or other is None or len(one) != len(other):
        return one == other
    first, second = np.frombuffer(one, "<f4"), np.frombuffer(other, "<f4")
    bound = FLOAT32 + FLOAT16 * np.abs(second) if len(first) > MAX_FLOAT32 else FLOAT32
    return bool((np.abs(first - second) <= bound).all())


def check_models(index: "Index", models: Collection[str], dimensions: int | None, *, is_named: bool) -> None:
    """Raises ModelMismatch where vectors are not of the model that this engine writes for: one that is named beside
    them, as `NAME FINGERPRINT`, or of another length. Raises InvalidInput where nothing names their model."""
    with index.reading() as connection:
        generations = index.catalog.generations(connection)
        service = index.services.of(generations, dimensions)
    provider = check_service(service, generations, "")
    if not models and not generations and not is_named:
        raise InvalidInput(
            "name the model of these embeddings: --model NAME where kameleon can run it, which then embeds queries, "
            "too, else --provider given --model NAME"
        )
    named = f"{provider.model_name} ({provider.dimensions} dimensions)"
    for text in sorted(models):
        name, _, fingerprint = text.rpartition(" ")
        is_same_name = name == provider.model_name and bool(getattr(provider, "is_given", False))
        if fingerprint != provider.fingerprint and not is_same_name:
            raise ModelMismatch(
                f"the embeddings are of {name or text}, this engine's model is {named}: name theirs, --model NAME, or "
                f"--provider given --model {shlex.quote(name or 'NAME')}; or leave --embeddings out"
            )
    if dimensions is not None and dimensions != provider.dimensions:
        raise ModelMismatch(
            f"the embeddings have {dimensions} numbers, this engine's model is {named}: name theirs, --model NAME, or "
            "--provider given --model NAME"
        )
