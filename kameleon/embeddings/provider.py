"""The protocol between kameleon and what turns text into embeddings. Imports `errors`.

A provider defines one method, `embed` or `embed_batch`; each has a default made of the other. A provider's
`fingerprint` identifies its vectors: two vectors are compared only where their fingerprints are equal.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidInput, printable, seen
from .batching import estimate_spans, estimate_tokens
from .options import CHECKS, MAX_NAME

Vector = NDArray[np.float32]
FINGERPRINT_FORMAT = "2"
"""What a fingerprint is computed from; the number changes with it, so that an older registry row is recognised."""


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """A text and its embedding: `embedding` has `dimensions` float32 and length 1."""

    text: str
    embedding: Vector
    model: str
    dimensions: int


@lru_cache
def digest(identity: tuple[Any, ...]) -> str:
    """The hash of what identifies a model. A commit reads its provider's fingerprint seven times."""
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def check_model(name: object, dimensions: object) -> None:
    """Raises InvalidInput for what no registry row can hold of a provider."""
    if not isinstance(name, str) or printable(name) != name or len(name) > MAX_NAME:
        raise InvalidInput(
            f"a provider's model_name is text of {MAX_NAME} characters at most, without control characters, not "
            f"{seen(name)}"
        )
    if isinstance(dimensions, bool) or not isinstance(dimensions, int | np.integer) or dimensions < 1:
        raise InvalidInput(f"a provider's dimensions are a whole number from 1 on, not {seen(dimensions)}")


class EmbeddingProvider:
    """Base of all providers. A subclass sets `model_name` and `dimensions`, as class attributes or properties.

    Limits: `batch_size` texts a call at most, `max_batch_tokens` tokens a call, `max_tokens` tokens a text (None: no
    limit); `concurrency` calls at a time, `attempts` for each during an outage. `is_costly`: embeddings are worth
    caching, because they cost money or go over the network; `price_per_million` is what a million tokens cost, None
    where that is not known. `is_given`: the vectors come from outside, and it is not called.

    `passage_tokens` is what a record's text is split by for its embeddings: passages of so many tokens, 16 at least
    (None: as many as a text may have), 0 for the beginning of the text alone.

    `noise` is the mean and the standard deviation of the cosines of unrelated texts, by which the cosines of this model
    become scores. None: 64 sentences are embedded, with the first texts of an index.

    `vector_weight` (0..1) is how much the vector leg counts against the keyword leg when both are fused: how far this
    model's similarities are to be trusted. The service puts `query_prefix` and `passage_prefix` before texts.

    `aembed_batch` and `aembed_query`, where a subclass defines them (`async def`), are awaited instead of `embed_batch`
    and `embed_query` on the event loop of the coroutine that called, such as `asearch`; what is called without one uses
    the others. `query_timeout` bounds them, too.

    `learn(dimensions)`, where a subclass defines it, is called with those that an index has of `model_name`, before the
    provider's own are read.

    `query_timeout` is how many seconds a search waits for the embedding of its query. None: 3 seconds where the
    provider `is_costly`, as long as it takes where not. `load` is not counted.

    `revision` separates models of one name, and joins those of one `model_name`: `fingerprint` is made of it, name,
    dimensions and prefixes. Set it to what changes whenever the vectors do, and is equal in every process that
    makes equal ones: a version or a file's hash, never `hash()`, `id()` or the `repr` of an object.
    """

    name: ClassVar[str] = ""
    model_name: str
    dimensions: int
    batch_size: int = 1000
    max_batch_tokens: int | None = None
    max_tokens: int | None = None
    passage_tokens: int | None = None
    concurrency: int = 1
    attempts: int = 3
    is_costly: bool = False
    is_given: bool = False
    price_per_million: float | None = None
    noise: tuple[float, float] | None = None
    vector_weight: float = 0.7
    query_timeout: float | None = None
    revision: str = ""
    query_prefix: str = ""
    passage_prefix: str = ""
    aembed_batch: Callable[[Sequence[str]], Awaitable[Any]] | None = None
    aembed_query: Callable[[str], Awaitable[Any]] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.embed is EmbeddingProvider.embed and cls.embed_batch is EmbeddingProvider.embed_batch:
            raise TypeError(f"{cls.__name__} must define embed(text) or embed_batch(texts)")

    def _set_options(self, **options: Any) -> None:
        """Set attributes of these names. Raises InvalidInput for a value out of bounds."""
        for name, value in options.items():
            setattr(self, name, CHECKS[name](value) if name in CHECKS else value)

    def load(self) -> None:
        """Load what the first embedding needs: called before a lock is taken on which other processes wait."""

    def embed(self, text: str) -> ArrayLike:
        """One vector of `dimensions` numbers for a passage; raises where the text is refused."""
        result: Any = self.embed_batch([text])[0]
        if isinstance(result, Exception):
            raise result
        return cast(ArrayLike, result)

    def embed_batch(self, texts: Sequence[str]) -> Sequence[Any] | NDArray[Any]:
        """One vector for each text, in order: an (n, dimensions) array, or a sequence whose positions may also hold
        an exception for a text that was refused. Raising refuses the whole call."""
        results: list[Any] = []
        for text in texts:
            try:
                results.append(self.embed(text))
            except Exception as error:  # noqa: BLE001 - returned in the text's position: the service classifies it
                results.append(error)
        return results

    def embed_query(self, text: str) -> ArrayLike:
        """One vector for a query; the same as a passage's unless the model distinguishes the two."""
        return self.embed(text)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, or an estimate of them."""
        return estimate_tokens(text)

    def known_share(self, text: str) -> float:
        """The share of a query that the model's vocabulary covers, 0 to 1: the vector counts for less where that is
        little. Every hybrid search calls it."""
        return 1.0

    def knows_word(self, word: str) -> bool:
        """Whether a lower-case word is in the model's vocabulary, so that no search takes it for a misspelt one."""
        return False

    def count_all(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, before they are split and embedded."""
        return [self.count_tokens(text) for text in texts]

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        """The (start, end) of each token in a text's characters, in order, or an estimate of them."""
        return estimate_spans(text)

    @property
    def window(self) -> int | None:
        """Tokens of a passage at most, without its prefix and the tokenizer's own; None where no text is split."""
        if self.passage_tokens == 0 or self.max_tokens is None:
            return self.passage_tokens or None
        most = max(1, self.max_tokens - self.count_tokens(self.passage_prefix))
        return min(most, self.passage_tokens or most)

    @property
    def options(self) -> Mapping[str, Any]:
        """What `get_provider(self.name, **options)` needs to make this provider again: all that changes its vectors or
        its requests, and never a secret. `changed` gives those of its attributes that were set."""
        return {}

    def changed(self, *names: str) -> dict[str, Any]:
        """The named attributes whose values are not the class's own."""
        return {name: value for name in names if (value := getattr(self, name)) != getattr(type(self), name)}

    @property
    def identity(self) -> Sequence[str]:
        """What identifies the model in `fingerprint`, beside dimensions and prefixes."""
        return [self.model_name, CHECKS["revision"](self.revision)]

    @property
    def fingerprint(self) -> str:
        """Identity of the vectors, equal in all processes: `identity`, dimensions and prefixes, hashed."""
        check_model(self.model_name, self.dimensions)
        prefixes = [CHECKS[name](getattr(self, name)) for name in ("query_prefix", "passage_prefix")]
        identity = [*self.identity, int(self.dimensions), *prefixes]
        return f"{FINGERPRINT_FORMAT}-{digest(tuple(identity))}"
