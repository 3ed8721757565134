"""OpenAI's embeddings, and every server of the same protocol (`base_url=`): docs/embedding-providers.md. Imports
`errors`, `telemetry` and `forking`.

The key comes from the argument or `OPENAI_API_KEY`; it is handed to the client, kept nowhere else, and taken out of
whatever a server answers. The client's own retries are off: the service retries, and two of them would multiply.
"""

import json
import os
import re
import weakref
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

from ..errors import InvalidInput, MissingExtra, ProviderError, ProviderRefused, ProviderUnavailable, TextRefused, seen
from ..forking import fork_waits, per_process, state_of
from ..telemetry import current
from ..telemetry.measures import INPUT_TOKENS
from .answers import BadEncoding, cleaned, error_of, reason_of, status_of, tokens_of, vectors
from .batching import estimate_tokens
from .provider import EmbeddingProvider, Vector
from .retry import retry_after_s
from .server_urls import check_url, connection_options, server_of, without_secrets_of

try:
    import openai
except ImportError as _error:
    raise MissingExtra("openai", "openai") from _error

DIMENSIONS = re.compile("dimension|matryoshka", re.IGNORECASE)
OPENAI = "https://api.openai.com/v1"
SHORTENED = "text-embedding-3"
NATIVE = {"text-embedding-ada-002": 1536}
OPTIONS = (
    "max_tokens",
    "max_batch_tokens",
    "batch_size",
    "concurrency",
    "passage_tokens",
    "query_prefix",
    "passage_prefix",
    "query_timeout",
    "revision",
)
"""Of the constructor, with the values that `options` gives where they are not the defaults."""
MAX_INPUTS = 2048
"""OpenAI's bound of the texts of a request."""
BATCH_SIZE, MAX_BATCH_TOKENS, CONCURRENCY, TIMEOUT_S = 100, 250_000, 10, 30.0
"""The defaults of the options of these names. Chosen, not measured; OpenAI takes 300,000 tokens a request."""
PRICES = {"text-embedding-3-small": 0.02, "text-embedding-3-large": 0.13, "text-embedding-ada-002": 0.10}
FOR_ALL = (401, 402, 404, 405, 407, 410)
BAD_REQUEST = (400, 404, 413, 422)
TRY_LATER = (408, 409, 425, 429)
NO_KEY = "no-key"
NO_ANSWER = "the server's answer is not one of OpenAI's protocol"
NOT_THE_TEXT = ("dimensions", "model", "user")
TOO_LONG = re.compile(r"context.{0,5}(length|size|window)|too (long|large)|maximum.{0,20}tokens|exceed", re.IGNORECASE)


class OpenAIProvider(EmbeddingProvider):
    """`dimensions` is sent with each request where it is given, and is the vectors' length. Where it is not,
    text-embedding-3 models are requested at 384, and nothing is sent to others. A server that refuses it is requested
    without it from then on.

    A text over `max_tokens` is cut to its beginning. A request holds `batch_size` texts (2,048 at most) of
    `max_batch_tokens` tokens together, `concurrency` requests run at a time, each for `timeout_s` seconds at most.
    `passage_tokens`, the prefixes and `query_timeout` as in EmbeddingProvider, 3 seconds by default.

    `base_url` (default: `OPENAI_BASE_URL`) identifies the model besides its name: scheme, host, port and path. It may
    hold a query such as `?api-version=2024-10-21`, which goes with every request; the key is then sent as Azure wants
    it. A `base_url` needs no key. `revision` replaces the URL: servers with one `model` and `revision` serve the
    same vectors. A pickle has no key: the process that loads it reads OPENAI_API_KEY.
    """

    name: ClassVar[str] = "openai"
    max_tokens: int = 8192
    batch_size: int = BATCH_SIZE
    max_batch_tokens: int | None = MAX_BATCH_TOKENS
    concurrency: int = CONCURRENCY
    is_costly: bool = True

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        dimensions: int | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = TIMEOUT_S,
        batch_size: int = BATCH_SIZE,
        max_batch_tokens: int = MAX_BATCH_TOKENS,
        concurrency: int = CONCURRENCY,
        max_tokens: int = 8192,
        passage_tokens: int | None = None,
        query_prefix: str = "",
        passage_prefix: str = "",
        query_timeout: float | None = None,
        revision: str = "",
    ) -> None:
        if not 1 <= batch_size <= MAX_INPUTS:
            raise InvalidInput(f"batch_size lies between 1 and {MAX_INPUTS} inputs a request, not {batch_size}")
        base_url = (os.environ.get("OPENAI_BASE_URL") or None) if base_url is None else base_url
        check_positive(timeout_s=timeout_s, max_batch_tokens=max_batch_tokens, concurrency=concurrency)
        check_url(base_url)
        self.model_name = model
        self._is_shortened = dimensions is not None or model.startswith(SHORTENED)
        self._dimensions = dimensions
        limits = max_tokens, max_batch_tokens, batch_size, concurrency, passage_tokens
        given = (*limits, query_prefix, passage_prefix, query_timeout, revision)
        self._set_options(
            price_per_million=PRICES.get(model) if base_url is None else None,
            dimensions=NATIVE.get(model, 384) if dimensions is None else dimensions,
            **dict(zip(OPTIONS, given, strict=True)),
        )
        self._key = api_key
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._encoding = Encoding()

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
            return self._embed(inputs)
        except DimensionsRefused:
            self._is_shortened = False
            return self._embed(inputs)

    def _embed(self, inputs: list[str]) -> list[Vector]:
        """The vectors of one request, or two while it is not decided whether the server gives base64."""
        format_ = self._encoding.next
        try:
            made = self._send(inputs, format_)
        except BadEncoding:
            self._encoding.refused()
            return self._send(inputs, "float")
        except TextRefused as error:
            if not self._encoding.may_be_refused(format_) or error.reason == "too_long":
                raise
            made = self._send_floats(inputs, error)
        except ProviderUnavailable as error:
            if error.status is not None and error.status >= 500:
                self._encoding.failed(inputs, format_)
            raise
        else:
            self._encoding.taken(inputs, format_)
        return made

    def _send_floats(self, inputs: list[str], refusal: TextRefused) -> list[Vector]:
        """Send the same texts with floats, which shows whether base64 is what was refused."""
        try:
            made = self._send(inputs, "float")
        except TextRefused as error:
            if "encoding" in str(error) and "encoding" not in str(refusal):
                self._encoding.is_base64 = True  # this server refuses floats by name
            self._encoding.undecided()
            raise refusal from None
        self._encoding.refused()
        return made

    def _send(self, inputs: list[str], format_: str) -> list[Vector]:
        """The vectors of one request. The raw response is parsed: the client's models of it cost as much again as the
        request."""
        request: dict[str, Any] = {"encoding_format": format_, "extra_headers": self._headers}
        if self._is_shortened:
            request["dimensions"] = self.dimensions
        try:
            answer = self._client.embeddings.with_raw_response.create(input=inputs, model=self.model_name, **request)
            parsed = json.loads(answer.content)
        except openai.APIStatusError as error:
            raise self._refused(error.status_code, error.body, error.response) from error
        except openai.APITimeoutError as error:
            message = f"{type(error).__name__}: no answer within {self._timeout_s:g} s for {len(inputs)} texts"
            raise ProviderUnavailable(message, timed_out=True) from error
        except openai.APIConnectionError as error:
            raise ProviderUnavailable(self._redacted(f"{type(error).__name__}: {error.__cause__ or error}")) from error
        except UnicodeEncodeError as error:
            raise TextRefused(f"{error.reason}: half a character") from error
        except (ValueError, RecursionError) as error:
            raise ProviderUnavailable(f"{NO_ANSWER}: {self._redacted(reason_of(answer.content))}") from error
        if (found := error_of(parsed)) is not None:
            raise self._refused(status_of(found), found, None, reason_of(answer.content))
        if (tokens := tokens_of(parsed)) is not None:
            current().set({INPUT_TOKENS: tokens})
        try:
            return vectors(parsed, len(inputs))
        except BadEncoding:
            if format_ == "base64":
                raise
            raise ProviderUnavailable(f"{NO_ANSWER}: base64 that cannot be read") from None
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ProviderUnavailable(f"{NO_ANSWER}: {cleaned(f'{type(error).__name__}: {error}')}") from error

    def _refused(self, status: int, body: object, response: Any, reason: str = "") -> ProviderError:
        """The error for a status, before anything else was tried: docs/embedding-providers.md has the table."""
        reason = reason or reason_of(response.content) or "without a reason"
        message = self._redacted(f"HTTP {status}: {reason}")
        field: Any = body if isinstance(body, Mapping) else {}
        field = field["error"] if isinstance(field.get("error"), Mapping) else field
        if field.get("code") == "insufficient_quota" or field.get("type") == "insufficient_quota":
            return ProviderRefused(message)
        if status in BAD_REQUEST and self._is_about_dimensions(f"{field.get('param')} {reason}"):
            return DimensionsRefused(message)
        if status in FOR_ALL or field.get("param") in NOT_THE_TEXT:
            return ProviderRefused(message)
        if status == 403:
            return ProviderRefused(message, may_be_text=True)
        if status in TRY_LATER or status >= 500:
            wait_s = retry_after_s(response.headers) if response is not None else None
            return ProviderUnavailable(message, retry_after_s=wait_s, status=status)
        is_long = status == 413 or TOO_LONG.search(message)
        return TextRefused(message, reason="too_long" if is_long else "embed_failed")

    def _is_about_dimensions(self, message: str) -> bool:
        """Whether a server refuses to shorten vectors, whose length may be right as it is."""
        is_requested = self._is_shortened and not self.model_name.startswith(SHORTENED)
        return is_requested and bool(DIMENSIONS.search(message))

    def _redacted(self, message: str) -> str:
        key = self._client.api_key
        return message.replace(key, "…") if key and key != NO_KEY else message

    def _beginning(self, text: str) -> str:
        tokens = estimate_tokens(text)
        return text if tokens <= self.max_tokens else text[: len(text) * self.max_tokens // tokens]

    def __getstate__(self) -> dict[str, Any]:
        """Without the key: the process that unpickles it has OPENAI_API_KEY. Raises TypeError for a `base_url` with a
        password."""
        if self._base_url is not None and without_secrets_of(self._base_url) != self._base_url:
            raise TypeError(
                "an OpenAIProvider whose base_url has a user or a password is not pickled, for these would be in "
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
        with fork_waits():
            made = self._make_client()
        weakref.finalize(self, made.close).atexit = False  # its sockets are not left to the garbage collector
        return made

    def _make_client(self) -> openai.OpenAI:
        try:
            made = openai.OpenAI(
                api_key=self._key, timeout=self._timeout_s, max_retries=0, **connection_options(self._base_url)
            )
        except openai.OpenAIError as error:
            if self._base_url is None:
                raise ProviderRefused("no key: set OPENAI_API_KEY or pass api_key=") from error
            return self._without_key()
        except Exception as error:  # httpx raises errors of several classes for URLs that it cannot parse
            raise ProviderRefused(f"base_url cannot be used: {type(error).__name__}") from error
        if not made.api_key:
            return self._without_key()
        if not (made.api_key.isascii() and made.api_key.isprintable()):
            raise ProviderRefused(
                "the key holds what no header can carry, such as a newline at its end: set OPENAI_API_KEY to the key "
                "alone"
            )
        return made

    def _without_key(self) -> openai.OpenAI:
        """A client for a server that needs no key."""
        options = connection_options(self._base_url)
        return openai.OpenAI(api_key=NO_KEY, timeout=self._timeout_s, max_retries=0, **options)

    @property
    def _headers(self) -> dict[str, Any]:
        """Headers for servers that take the key otherwise than the client sends it."""
        key = self._client.api_key
        if key == NO_KEY:
            return {"Authorization": openai.Omit()}
        is_azure = "api-version" in connection_options(self._base_url).get("default_query", ())
        return {"Authorization": openai.Omit(), "api-key": key} if is_azure else {}


class DimensionsRefused(ProviderRefused):
    """The server does not take `dimensions`."""


class Encoding:
    """Whether a server gives base64, which is a quarter of the bytes; floats are always given.

    A request that is refused is sent once more with floats, while that is undecided. Where the floats are refused too,
    it stays undecided, and the next request goes with floats: it decides about the texts alone."""

    def __init__(self) -> None:
        self.is_base64: bool | None = None
        self._is_doubtful = False
        self._failed: set[int] = set()
        self._failures = 0

    @property
    def next(self) -> str:
        return "float" if self.is_base64 is False or self._is_doubtful else "base64"

    def may_be_refused(self, format_: str) -> bool:
        return format_ == "base64" and self.is_base64 is None

    def refused(self) -> None:
        self.is_base64, self._is_doubtful = False, False

    def undecided(self) -> None:
        self._is_doubtful = self.is_base64 is None

    def failed(self, inputs: list[str], format_: str) -> None:
        """An error of the server's, which may have another cause: base64 is out once it has failed twice on what was
        then taken as floats."""
        if self.may_be_refused(format_):
            self._is_doubtful = True
            self._failed.add(hash(tuple(inputs)))

    def taken(self, inputs: list[str], format_: str) -> None:
        if format_ == "base64":
            self.is_base64 = True
        elif self.is_base64 is None:
            self._failures += hash(tuple(inputs)) in self._failed
            self.is_base64 = False if self._failures > 1 else None
        if self.is_base64 is not None:
            self._failed.clear()
        self._is_doubtful = False


def check_positive(**values: float) -> None:
    for name, value in values.items():
        kind = int | float if name == "timeout_s" else int
        if isinstance(value, bool) or not isinstance(value, kind) or not value > 0:
            whole = "" if name == "timeout_s" else "whole "
            raise InvalidInput(f"{name} is a {whole}number above 0, not {seen(value)}")
