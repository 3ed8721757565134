"""Chooses the embedding service of an index: the engine's own provider's, or that of the model which the index names.
Imports `values`, `errors`, `forking`, `embeddings` and `stores`."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from os.path import isabs
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from ..errors import InvalidInput, NoProvider, ProviderError, ProviderRefused, ProviderUnavailable, StorageError
from ..forking import fork_waits, per_process
from ..stores.catalog import RETIRED, active, current, mismatch, unread, written_generation
from ..stores.model_commands import command
from ..stores.protocols import Store
from ..stores.transactions import Transactions
from ..values import BUILDING, Generation
from .caching import Evictor, StoredCache

if TYPE_CHECKING:
    from ..embeddings.provider import EmbeddingProvider
    from ..embeddings.service import EmbeddingService, Listener

log = logging.getLogger("kameleon.search")

MODELS_READ_EVERY_S = 1.0
"""Bounds how often a writer reads which models there are to load. Chosen, not measured."""

ON_PROVIDER_ERROR = ("defer", "raise")
KEYWORDS_ONLY = "records are indexed for keywords, their embeddings stay pending: "


class Notices:
    """What users should know about an engine: each message is logged once, and the current one of each topic is shown
    by `get_status`. A Python warning would raise inside commits where warnings are errors."""

    def __init__(self) -> None:
        self._logged: set[str] = set()
        self._current: dict[str, str] = {}

    def report(self, topic: str, message: str) -> None:
        """An empty message ends the topic's notice."""
        self._current[topic] = message
        if message and message not in self._logged:
            self._logged.add(message)
            log.warning("%s", message)

    def joined(self, first: str) -> str:
        """`first`, unless a notice repeats it, and the current notices."""
        current = [message for message in list(self._current.values()) if message]
        return "; ".join([*([first] if first and not any(first in other for other in current) else []), *current])


class Services:
    """`provider` is as the engine was given it; where it cannot be had, a write fails if the engine `raises`.
    `wrote_last` is the service of the last write, None where it could not embed."""

    def __init__(
        self,
        transactions: Transactions,
        store: Store,
        provider: Any,
        *,
        is_caching: bool | None,
        cache_limit: int,
        raises: bool,
        query_timeout: float | None = None,
    ) -> None:
        is_provider = hasattr(provider, "embed_batch") and not isinstance(provider, type)
        if not (provider is None or isinstance(provider, str) or is_provider):
            raise InvalidInput(f"embedding_provider is None, a name or a provider object, not {provider!r:.80}")
        self.provider: str | EmbeddingProvider | None = provider
        self.listeners: list[Listener] = []
        self.wrote_last: EmbeddingService | None = None
        self.raises = raises
        self._transactions = transactions
        self._store = store
        self._made: dict[str, EmbeddingService] = {}
        self.notices = Notices()
        self._is_caching = is_caching
        self._query_timeout = query_timeout
        self._evictor = Evictor(cache_limit)

    @per_process
    def _load_next(self) -> float:
        return 0.0

    def of(self, generations: Sequence[Generation], dimensions: int | None = None) -> "EmbeddingService | None":
        """The service of the engine's provider; of the index's own model where the engine was opened by name. Raises
        ProviderError where that cannot be had. `dimensions` are those of vectors that are given."""
        self.learn(generations, dimensions)
        service = self._of(generations)
        if service is not None:
            service.identify()
        return service

    def learn(self, generations: Sequence[Generation], dimensions: int | None = None) -> None:
        """Have a provider that was not given its dimensions know those of the index's generation of its model. Where
        there is none, one of given vectors has those that are given, else those of another model, from which its name
        differs."""
        provider: Any = self.provider
        learn = getattr(provider, "learn", None)
        if learn is None or isinstance(provider, str):
            return
        known = [one.dimensions for one in generations if one.model_name == provider.model_name]
        if not known and getattr(provider, "is_given", False):
            known = [dimensions] if dimensions else [one.dimensions for one in generations]
        if known:
            learn(known[-1])

    def _of(self, generations: Sequence[Generation]) -> "EmbeddingService | None":
        if self.provider is None:
            return None
        if not isinstance(self.provider, str):
            return self.of_provider(self.provider)
        generation = current(generations)
        return self.of_generation(generation) if generation is not None else self.named(self.provider)

    def has_moved(self, generations: Sequence[Generation], service: "EmbeddingService") -> bool:
        """Whether an engine opened by name has another service now: the index moved to another model."""
        generation = current(generations)
        if not isinstance(self.provider, str) or generation is None:
            return False
        return generation.fingerprint != service.provider.fingerprint and self._made_of(generation) is not service

    def load(self, generations: Sequence[Generation]) -> None:
        """Load the model that writes, and the one that a build is about to put in its place. What cannot be loaded is
        reported by the write."""
        follows = isinstance(self.provider, str)
        with suppress(ProviderError):
            if (service := self.of(generations)) is not None:
                service.load()
        for generation in generations if follows else ():
            with suppress(ProviderError):
                if generation.state == BUILDING:
                    self.of_generation(generation).load()
        self._load_next = time.monotonic() + (MODELS_READ_EVERY_S if follows else inf)

    @property
    def must_load(self) -> bool:
        """Whether it is time to see which models there are to `load`."""
        return self.provider is not None and time.monotonic() >= self._load_next

    def of_generation(self, generation: Generation) -> "EmbeddingService":
        """The service of the model that made a generation. Raises NoProvider where only the application has it, or its
        folder is not here, UnknownProvider and MissingExtra."""
        own = self.provider
        self.learn([generation])
        if own is not None and not isinstance(own, str) and self._own_fingerprint == generation.fingerprint:
            return self.of_provider(own)
        if (made := self._made_of(generation)) is not None:
            return made
        if not generation.provider:
            raise NoProvider(
                f"this index was embedded by a provider object ({generation.model_name}): "
                "pass that object to SearchEngine, a name cannot replace it"
            )
        try:
            return self.named(generation.provider, **generation.options)
        except InvalidInput as error:
            moved = ""
            if any(isabs(str(generation.options.get(name, ""))) for name in ("model", "path")):
                moved = (
                    ". Where its folder is elsewhere, `kameleon embeddings reindex --model FOLDER` takes it from "
                    "there, without embedding anything again if the files are the same"
                )
            raise NoProvider(f"the index's model {generation.model_name} cannot be had here: {error}{moved}") from error

    def is_given(self, generations: Sequence[Generation]) -> bool:
        """Whether the vectors of the model that writes come from outside; False where it cannot be had."""
        with suppress(ProviderError):
            service = self.of(generations)
            return service is not None and service.is_given
        return False

    @property
    def _own_fingerprint(self) -> str | None:
        """Of the engine's provider object, None where it cannot be had."""
        if self.provider is None or isinstance(self.provider, str):
            return None
        try:
            service = self.of_provider(self.provider)
            service.identify()
        except ProviderError:
            return None
        return service.provider.fingerprint

    def _made_of(self, generation: Generation) -> "EmbeddingService | None":
        for service in list(self._made.values()):
            if service.is_identified and service.provider.fingerprint == generation.fingerprint:
                return service
        return self._made.get(named_key(generation.provider, generation.options))

    def of_provider(self, provider: "EmbeddingProvider") -> "EmbeddingService":
        """Of an object, the engine's own or another."""
        if provider is self.provider:
            return self._made.get("") or self._make("", provider)
        try:
            key = f"{provider.fingerprint} {id(provider)}"
        except Exception as error:  # a provider is the application's code, which may raise anything
            raise ProviderUnavailable(f"the provider has no fingerprint: {type(error).__name__}: {error}") from error
        return self._made.get(key) or self._make(key, provider)

    def named(self, name: str, **options: Any) -> "EmbeddingService":
        key = named_key(name, options)
        return self._made.get(key) or self._make(key, name, **options)

    def forget_queries(self) -> None:
        """Drop the query vectors that are in memory."""
        for service in list(self._made.values()):
            service.forget_queries()

    def _make(self, key: str, provider: "str | EmbeddingProvider", **options: Any) -> "EmbeddingService":
        with fork_waits():
            from ..embeddings import EmbeddingService, get_provider  # NumPy loads with the first provider

            try:
                made = EmbeddingService(
                    get_provider(provider, **options), listeners=self.listeners, query_timeout=self._query_timeout
                )
            except (ProviderError, InvalidInput):
                raise
            except Exception as error:  # so is its constructor
                raise ProviderUnavailable(f"the provider cannot be made: {type(error).__name__}: {error}") from error
        return self._made.setdefault(key, made)

    def writing(
        self, conn: Connection, generations: Sequence[Generation], dimensions: int | None = None
    ) -> "EmbeddingService | None":
        """For writing: where the index's model is not the engine's, or cannot be had, embeddings stay pending.
        `dimensions` are those of vectors that are given."""
        self.wrote_last = None
        try:
            service = self.of(generations, dimensions)
        except ProviderError as error:
            if self.raises:
                raise nothing_stored(error) from error
            self.notices.report("writing", KEYWORDS_ONLY + str(error))
            return None
        if service is None:
            return None
        if not generations and (refusal := self._store.vectors.refusal(conn, service.provider.dimensions)):
            self.notices.report("writing", KEYWORDS_ONLY + refusal)
            return None
        problem = mismatch(generations, service.provider)
        self.notices.report("writing", KEYWORDS_ONLY + problem if problem else self._retired(generations, service))
        self.wrote_last = None if problem else service
        return service

    def _retired(self, generations: Sequence[Generation], service: "EmbeddingService") -> str:
        """The notice to a writer whose generation the index no longer searches; empty for another."""
        written, searched = written_generation(generations, service.provider.fingerprint), active(generations)
        if written is not None and searched is not None and written.state == RETIRED:
            return (
                f"the index has moved from this engine's {written.model_name} to {searched.model_name}: what it writes "
                "is pending there until `kameleon embeddings sync`. Open the engine by name and it follows; "
                f"{command(service.provider)} moves the index back"
            )
        return ""

    def cache(
        self,
        service: "EmbeddingService | None",
        connection: Connection | None = None,
        *,
        on_a_thread: bool = False,
    ) -> StoredCache | None:
        if service is None or not (service.provider.is_costly if self._is_caching is None else self._is_caching):
            return None
        waits = connection is not None and not self._store.connections.has_spare_connection()
        reads_with = (
            connection if waits and not on_a_thread and not self._store.connections.has_spare_reader() else None
        )
        return StoredCache(self._store, self._transactions, self._evictor, connection=reads_with, waits=waits)

    def evict(self, *, is_whole: bool) -> None:
        """Take the cache's surplus away, all of it or some if it is due, in transactions of its own."""
        table = self._store.tables.embedding_cache
        with suppress(StorageError):
            if is_whole:
                self._evictor.evict(self._transactions, table)
            else:
                self._evictor.evict_if_due(self._transactions, table)

    def reported(self, generations: Sequence[Generation]) -> Generation | None:
        """The generation that `get_status` counts."""
        if self.provider is None:
            return None
        if isinstance(self.provider, str):
            return current(generations)
        self.learn(generations)
        own = self._own_fingerprint
        return (written_generation(generations, own) if own is not None else None) or active(generations)

    def problem(self, generations: Sequence[Generation]) -> str:
        """What keeps the vectors of this index from being searched or made; empty if nothing does."""
        try:
            service = self.of(generations)
        except ProviderError as error:
            return str(error)
        if service is None:
            return ""
        return unread(generations, service.provider) or (str(service.outage) if service.outage else "")


def named_key(name: str, options: Mapping[str, Any]) -> str:
    return f"{name} {sorted(options.items())}"


def nothing_stored(error: ProviderError) -> ProviderError:
    """What a writing call raises with `on_provider_error="raise"`."""
    kind = ProviderRefused if isinstance(error, ProviderRefused) else ProviderUnavailable
    return kind(f"nothing was stored: {error}")


def check_on_provider_error(value: object) -> None:
    if value not in ON_PROVIDER_ERROR:
        raise InvalidInput(f"unknown on_provider_error {value!r}. Known: {', '.join(ON_PROVIDER_ERROR)}")


def first_outage(service: "EmbeddingService | None", generations: Sequence[Generation]) -> ProviderError | None:
    """Why the model that an index without embeddings is to have cannot be loaded: a broken file is not registered
    as that model."""
    if service is None or generations:
        return None
    try:
        service.load()
    except ProviderError as error:
        return error
    return None
