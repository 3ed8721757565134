"""OpenAI's embeddings, and every server that speaks the same protocol (`base_url=`).

The key comes from the argument or `OPENAI_API_KEY`; it is handed to the client, kept nowhere else, and taken out of
whatever a server says. The client's own retries are off: the service retries, and two of them would multiply.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from operator import itemgetter
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from ..errors import InvalidInput, MissingExtra, ProviderRefused, ProviderUnavailable, TextRefused, seen
from ..forking import per_process, state_of, uncut
from .batching import estimate_tokens
from .provider import EmbeddingProvider, Vector, check_passage_tokens
from .retry import retry_after_s

try:
    import openai
except ImportError as error:
    raise MissingExtra("openai", "openai") from error

MAX_INPUTS = 2048
MAX_URL = 2000
PRICES = {"text-embedding-3-small": 0.02, "text-embedding-3-large": 0.13, "text-embedding-ada-002": 0.10}
BAD_TEXT = (400, 413, 422)
COME_BACK = (408, 409, 425, 429)
NO_ANSWER = "the server's answer is not one of OpenAI's protocol"
NOT_THE_TEXT = ("dimensions", "model", "user")


class OpenAIProvider(EmbeddingProvider):
    """`dimensions` is asked of the text-embedding-3 models, which shorten their vectors; other models must give it.

    A text over `max_tokens` is cut to its beginning. `batch_size` texts a request, 2,048 at most. `passage_tokens` as
    in EmbeddingProvider. A pickle of it has no key: the process that loads it reads OPENAI_API_KEY.
    """

    name: ClassVar[str] = "openai"
    max_batch_tokens = 250_000
    max_tokens: int = 8192
    concurrency = 10
    is_costly = True

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        dimensions: int = 384,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = 30.0,
        batch_size: int = 100,
        max_tokens: int = 8192,
        passage_tokens: int | None = None,
    ) -> None:
        if not 1 <= batch_size <= MAX_INPUTS:
            raise InvalidInput(f"batch_size lies between 1 and {MAX_INPUTS} inputs a request, not {batch_size}")
        if base_url is not None and not (
            isinstance(base_url, str) and base_url.isprintable() and len(base_url) < MAX_URL
        ):
            raise InvalidInput(f"base_url is a URL such as http://localhost:8000/v1, not {seen(base_url)}")
        self.model_name = model
        self.price_per_million = PRICES.get(model) if base_url is None else None
        self.dimensions = dimensions
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.passage_tokens = check_passage_tokens(passage_tokens)
        self._key = api_key
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._encoding = "base64"

    @property
    def options(self) -> Mapping[str, Any]:
        base = {"base_url": without_user(self._base_url)} if self._base_url else {}
        return {"model": self.model_name, "dimensions": self.dimensions, **base, **self.passage_options}

    def load(self) -> None:
        self._redacted("")

    def embed_batch(self, texts: Sequence[str]) -> list[Any]:
        inputs = [self._beginning(text) for text in texts]
        try:
            return self._ask(inputs)
        except EncodingRefused:
            self._encoding = "float"
            return self._ask(inputs)

    def _ask(self, inputs: list[str]) -> list[Any]:
        """The answer as it came over the wire: the client's models of it cost as much again as the request."""
        asked: dict[str, Any] = {"encoding_format": self._encoding}
        if self.model_name.startswith("text-embedding-3"):
            asked["dimensions"] = self.dimensions
        try:
            answer = self._client.embeddings.with_raw_response.create(input=inputs, model=self.model_name, **asked)
            said = json.loads(answer.content)
        except openai.APIStatusError as error:
            raise self._translated(error) from error
        except openai.APIConnectionError as error:
            raise ProviderUnavailable(self._redacted(f"{type(error).__name__}: {error.__cause__ or error}")) from error
        except UnicodeEncodeError as error:
            raise TextRefused(f"{error.reason}: half a character") from error
        except (ValueError, RecursionError) as error:
            raise ProviderUnavailable(self._redacted(f"{NO_ANSWER}: {type(error).__name__}: {error}")) from error
        try:
            return in_order(said["data"] or [], len(inputs))
        except (KeyError, TypeError, ValueError) as error:
            raise ProviderUnavailable(f"{NO_ANSWER}: {type(error).__name__}: {error}") from error

    def _translated(self, error: openai.APIStatusError) -> Exception:
        said = self._redacted(f"{type(error).__name__}: {error.message}")
        if error.status_code in BAD_TEXT:
            if self._encoding == "base64" and "encoding_format" in f"{error.param} {error.message}":
                return EncodingRefused(said)
            if error.param in NOT_THE_TEXT:
                return ProviderRefused(said)
            is_long = error.status_code == 413 or "maximum context length" in error.message
            return TextRefused(said, reason="too_long" if is_long else "embed_failed")
        if error.code == "insufficient_quota":
            return ProviderRefused(said)
        if error.status_code in COME_BACK or error.status_code >= 500:
            return ProviderUnavailable(said, retry_after_s=retry_after_s(error.response.headers))
        return ProviderRefused(said)

    def _redacted(self, message: str) -> str:
        key = self._client.api_key
        return message.replace(key, "…") if key else message

    def _beginning(self, text: str) -> str:
        tokens = estimate_tokens(text)
        return text if tokens <= self.max_tokens else text[: len(text) * self.max_tokens // tokens]

    def __getstate__(self) -> dict[str, Any]:
        """Without the key: the process that unpickles it has OPENAI_API_KEY. Raises TypeError for a `base_url` with a
        password."""
        if self._base_url is not None and without_user(self._base_url) != self._base_url:
            raise TypeError(
                "an OpenAIProvider whose base_url has a user or a password is not pickled, for these would stand in "
                "the pickle: make one in each process"
            )
        return {**state_of(self), "_key": None}

    def __copy__(self) -> "OpenAIProvider":
        made = type(self).__new__(type(self))
        vars(made).update(state_of(self))
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> "OpenAIProvider":
        made = type(self).__new__(type(self))
        vars(made).update(deepcopy(state_of(self), memo))
        return made

    @per_process
    def _client(self) -> openai.OpenAI:
        with uncut():
            return self._make_client()

    def _make_client(self) -> openai.OpenAI:
        try:
            made = openai.OpenAI(api_key=self._key, base_url=self._base_url, timeout=self._timeout_s, max_retries=0)
        except openai.OpenAIError as error:
            raise ProviderRefused("no key: set OPENAI_API_KEY or pass api_key=") from error
        except Exception as error:
            raise ProviderRefused(f"base_url cannot be used: {type(error).__name__}") from error
        if not (made.api_key.isascii() and made.api_key.isprintable()):
            raise ProviderRefused(
                "the key holds what no header can carry, such as a newline at its end: set OPENAI_API_KEY to the key "
                "alone"
            )
        return made


class EncodingRefused(ProviderRefused):
    """The server does not give base64."""


def in_order(items: Sequence[Any], count: int) -> list[Vector]:
    """The vectors by their indexes, or too few or many. Raises ValueError where the indexes tell not whose each is."""
    found = sorted(items, key=itemgetter("index"))
    if len(found) == count and any(item["index"] != place for place, item in enumerate(found)):
        raise ValueError(f"its indexes are {[item['index'] for item in found]!r:.60}")
    return [decoded(item["embedding"]) for item in found]


def decoded(embedding: Any) -> Vector:
    """A vector from base64 of little-endian float32, or from the list of numbers that some servers give anyway."""
    if not isinstance(embedding, str):
        return np.asarray(embedding, dtype=np.float32)
    try:
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    except (binascii.Error, ValueError) as error:
        raise EncodingRefused(f"the server's base64 cannot be read: {error}") from error


def without_user(url: str) -> str:
    """The URL without the user and password that may stand in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
