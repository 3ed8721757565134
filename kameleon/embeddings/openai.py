"""OpenAI's embeddings, and every server that speaks the same protocol (`base_url=`).

The key comes from the argument or `OPENAI_API_KEY`; it is handed to the client, kept nowhere else, and taken out of
whatever a server says. The client's own retries are off: the service retries, and two of them would multiply.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from operator import itemgetter
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import numpy as np

from ..errors import InvalidInput, MissingExtra, ProviderRefused, ProviderUnavailable, TextRefused, seen
from ..forking import per_process, state_of, uncut
from .batching import estimate_tokens
from .options import check_prefix, check_query_timeout, check_revision
from .provider import EmbeddingProvider, Vector, check_passage_tokens
from .retry import retry_after_s

try:
    import openai
except ImportError as error:
    raise MissingExtra("openai", "openai") from error

DIMENSIONS = re.compile("dimension|matryoshka", re.IGNORECASE)
OPENAI = "https://api.openai.com/v1"
SHORTENED = "text-embedding-3"
NATIVE = {"text-embedding-ada-002": 1536}
OPTIONS = (
    "max_tokens",
    "batch_size",
    "concurrency",
    "passage_tokens",
    "query_prefix",
    "passage_prefix",
    "query_timeout",
    "revision",
)
TIMEOUT_S, BATCH_SIZE = 30.0, 100
PUBLIC_PARAMETERS = ("api-version", "api_version")
PORTS = {"http": 80, "https": 443}
MAX_INPUTS = 2048
MAX_URL = 2000
PRICES = {"text-embedding-3-small": 0.02, "text-embedding-3-large": 0.13, "text-embedding-ada-002": 0.10}
BAD_TEXT = (400, 413, 422)
COME_BACK = (408, 409, 425, 429)
NO_ANSWER = "the server's answer is not one of OpenAI's protocol"
NOT_THE_TEXT = ("dimensions", "model", "user")


class OpenAIProvider(EmbeddingProvider):
    """`dimensions` is sent with each request where it is given, and says how long the vectors are. Where it is not,
    text-embedding-3 models are requested at 384, and nothing is sent to others. A server that refuses it is requested
    without it from then on.

    A text over `max_tokens` is cut to its beginning. `batch_size` texts a request, 2,048 at most. `passage_tokens`, the
    prefixes and `query_timeout` as in EmbeddingProvider, 3 seconds by default.

    `base_url` (default: `OPENAI_BASE_URL`) identifies the model besides its name: scheme, host, port and path.
    `revision` stands in for the URL: servers with one `model` and `revision` serve the same vectors.
    A pickle has no key: the process that loads it reads OPENAI_API_KEY.
    """

    name: ClassVar[str] = "openai"
    max_batch_tokens = 250_000
    max_tokens: int = 8192
    batch_size = BATCH_SIZE
    concurrency = 10
    is_costly = True

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        dimensions: int | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = TIMEOUT_S,
        batch_size: int = BATCH_SIZE,
        max_tokens: int = 8192,
        passage_tokens: int | None = None,
        query_prefix: str = "",
        passage_prefix: str = "",
        query_timeout: float | None = None,
        revision: str = "",
    ) -> None:
        if not 1 <= batch_size <= MAX_INPUTS:
            raise InvalidInput(f"batch_size lies between 1 and {MAX_INPUTS} inputs a request, not {batch_size}")
        base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        if base_url is not None and not (
            isinstance(base_url, str) and base_url.isprintable() and len(base_url) < MAX_URL
        ):
            raise InvalidInput(f"base_url is a URL such as http://localhost:8000/v1, not {seen(base_url)}")
        self.model_name = model
        self.price_per_million = PRICES.get(model) if base_url is None else None
        self._is_shortened = dimensions is not None or model.startswith(SHORTENED)
        self._dimensions = dimensions
        self.dimensions = NATIVE.get(model, 384) if dimensions is None else dimensions
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.passage_tokens = check_passage_tokens(passage_tokens)
        self.query_prefix = check_prefix("query_prefix", query_prefix)
        self.passage_prefix = check_prefix("passage_prefix", passage_prefix)
        self.query_timeout = check_query_timeout(query_timeout)
        self.revision = check_revision(revision)
        self._key = api_key
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._encoding = "base64"

    @property
    def identity(self) -> Sequence[str]:
        return [self.model_name, self.revision] if self.revision else [self.model_name, "server", self.server]

    @property
    def server(self) -> str:
        """Where the model is served, without what differs between equal URLs, and without user, password and query."""
        return server_of(self._base_url) if self._base_url else OPENAI

    @property
    def options(self) -> Mapping[str, Any]:
        given: dict[str, Any] = {"model": self.model_name}
        if self._dimensions is not None:
            given["dimensions"] = self._dimensions
        if self._base_url:
            given["base_url"] = without_secrets_of(self._base_url)
        if self._timeout_s != TIMEOUT_S:
            given["timeout_s"] = self._timeout_s
        return {**given, **self.changed(*OPTIONS)}

    def load(self) -> None:
        self._redacted("")

    def embed_batch(self, texts: Sequence[str]) -> list[Any]:
        inputs = [self._beginning(text) for text in texts]
        try:
            return self._ask(inputs)
        except EncodingRefused:
            self._encoding = "float"
            return self._ask(inputs)
        except DimensionsRefused:
            self._is_shortened = False
            return self._ask(inputs)

    def _ask(self, inputs: list[str]) -> list[Any]:
        """The answer as it came over the wire: the client's models of it cost as much again as the request."""
        asked: dict[str, Any] = {"encoding_format": self._encoding}
        if self._is_shortened:
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
            if self._is_shortened and self._is_about_dimensions(f"{error.param} {error.message}"):
                return DimensionsRefused(said)
            if error.param in NOT_THE_TEXT:
                return ProviderRefused(said)
            is_long = error.status_code == 413 or "maximum context length" in error.message
            return TextRefused(said, reason="too_long" if is_long else "embed_failed")
        if error.code == "insufficient_quota":
            return ProviderRefused(said)
        if error.status_code in COME_BACK or error.status_code >= 500:
            return ProviderUnavailable(said, retry_after_s=retry_after_s(error.response.headers))
        return ProviderRefused(said)

    def _is_about_dimensions(self, message: str) -> bool:
        """Whether a server refuses to shorten vectors, whose length may be right as it is."""
        return not self.model_name.startswith(SHORTENED) and bool(DIMENSIONS.search(message))

    def _redacted(self, message: str) -> str:
        key = self._client.api_key
        return message.replace(key, "…") if key else message

    def _beginning(self, text: str) -> str:
        tokens = estimate_tokens(text)
        return text if tokens <= self.max_tokens else text[: len(text) * self.max_tokens // tokens]

    def __getstate__(self) -> dict[str, Any]:
        """Without the key: the process that unpickles it has OPENAI_API_KEY. Raises TypeError for a `base_url` with a
        password."""
        if self._base_url is not None and without_secrets_of(self._base_url) != self._base_url:
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


class DimensionsRefused(ProviderRefused):
    """The server does not take `dimensions`."""


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


def without_secrets_of(url: str) -> str:
    """The URL without the user, the password and the parameters that may hold a key: all but an API's version."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name in PUBLIC_PARAMETERS]
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=urlencode(kept), fragment=""))


def server_of(url: str) -> str:
    """Scheme, host, port and path of a URL, as equal URLs have them: in lower case, but for the path, without a default
    port and a slash at the end."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host.rstrip(".")
    named = f":{port}" if port not in (None, PORTS.get(parts.scheme)) else ""
    path = re.sub("/+", "/", parts.path).rstrip("/")
    return f"{parts.scheme}://{host}{named}{path}"
