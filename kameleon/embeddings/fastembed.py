"""Local transformer models through fastembed: any of its hub models by name, or a model folder by path. Imports
`errors` and `forking`.

fastembed pads every text of a batch to the longest one, so a batch of mixed lengths is slower than one text at a time.
Texts are therefore sorted by their token count and cut by padded tokens before fastembed sees them.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from os.path import isfile
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from ..errors import InvalidInput, MissingExtra, ProviderUnavailable
from ..forking import fork_waits, lazy, per_process, state_of
from .batching import padded_slices
from .folder import CLS, LAST_TOKEN, MEAN, ModelFolder, read_folder
from .onnx_runtime import not_loaded
from .provider import EmbeddingProvider, Vector
from .vocabulary import known_share, knows_word
from .weights import hash_of_files

try:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType
except ImportError as _error:
    raise MissingExtra("fastembed", "fastembed") from _error

DEFAULT_MODEL = "BAAI/bge-small-en-v1.5"
POOLING_TYPES = {MEAN: PoolingType.MEAN, CLS: PoolingType.CLS, LAST_TOKEN: PoolingType.LAST_TOKEN}
SETTINGS = ("config.json", "tokenizer_config.json", "special_tokens_map.json")

PADDED_TOKENS_AT_ONCE = 1024
"""Bounds what a text waits that another thread embeds beside a bulk job of the same model. Chosen, not measured."""

FAILED_FOR_S = 60.0
"""fastembed tries the hub for 40 seconds before it gives up: for this long, a model that failed is not loaded again."""


class FairLock:
    """A lock whose holder cannot take it again before a thread that was already waiting."""

    def __init__(self) -> None:
        self._next, self._held = Lock(), Lock()

    def __enter__(self) -> None:
        with self._next:
            self._held.acquire()

    def __exit__(self, *_: object) -> None:
        self._held.release()


class LoadedModel:
    """A model of this process, loaded once. Bulk jobs take `slices` for each padded slice; queries run beside them, one
    at a time."""

    def __init__(self) -> None:
        self.slices: FairLock = FairLock()
        self.queries: FairLock = FairLock()
        self._loading = Lock()
        self._session: Any = None
        self._failure: tuple[float, ProviderUnavailable] | None = None

    def session(self, load: Callable[[], Any]) -> Any:
        """Raises ProviderUnavailable, without another try for a minute after one that failed."""
        if self._session is not None:
            return self._session
        with self._loading:
            if self._session is None:
                if self._failure is not None and time.monotonic() - self._failure[0] < FAILED_FOR_S:
                    raise ProviderUnavailable(str(self._failure[1])) from self._failure[1]
                try:
                    with fork_waits():
                        self._session = load()
                except ProviderUnavailable as error:
                    self._failure = time.monotonic(), error
                    raise
            return self._session


ModelKey = tuple[str, str | None, int | None]


class Models:
    """What is loaded in this process, by model, cache folder and threads."""

    @per_process
    def lock(self) -> Lock:
        return Lock()

    @per_process
    def loaded(self) -> dict[ModelKey, LoadedModel]:
        return {}


_models = Models()


class FastEmbedProvider(EmbeddingProvider):
    """`model` is a fastembed model name or a folder with `model.onnx` and `tokenizer.json`.

    A folder is pooled as its `1_Pooling/config.json` declares: mean (the default), cls or last token, anything else is
    refused; its `max_seq_length` and its prompts for queries and documents hold too, unless prefixes are given. The
    files' hash identifies its model, not the folder's name or place; `revision` replaces the hash.

    The model loads at first use, once a process for each model and `threads`, and embeds one slice at a time, queries
    beside them; a forked process loads its own. `cache_dir` is where fetched models are kept (default:
    `FASTEMBED_CACHE_PATH`). `passage_tokens` as in EmbeddingProvider.
    """

    name: ClassVar[str] = "fastembed"
    attempts: int = 1

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        cache_dir: str | None = None,
        threads: int | None = None,
        passage_tokens: int | None = None,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        revision: str = "",
    ) -> None:
        self._model = model
        self._folder = read_folder(Path(model)) if isfile(Path(model) / "tokenizer.json") else None
        self._cache_dir = cache_dir
        self._threads = threads
        if self._folder is None and model not in self._available():
            raise InvalidInput(
                f"{model!r} is neither a model folder (with model.onnx and tokenizer.json) nor a model that fastembed "
                f"knows. Known: {', '.join(sorted(self._available())[:8])}, …"
            )
        own = self._own_prefixes
        self._set_options(
            passage_tokens=passage_tokens,
            revision=revision,
            query_prefix=own[0] if query_prefix is None else query_prefix,
            passage_prefix=own[1] if passage_prefix is None else passage_prefix,
        )

    @property
    def _own_prefixes(self) -> tuple[str, str]:
        return (self._folder.query_prefix, self._folder.passage_prefix) if self._folder else ("", "")

    @property
    def model_name(self) -> str:  # type: ignore[override]
        return self._folder.path.resolve().name if self._folder else self._model

    @lazy
    def dimensions(self) -> int:
        if self._folder is None:
            return int(TextEmbedding.get_embedding_size(self._model))
        return self._folder.dimensions

    @lazy
    def weights(self) -> str:
        """A hash of the folder's model files; empty for a model of the hub, which its name identifies."""
        if self._folder is None:
            return ""
        try:
            return hash_of_files(self._folder.weights)
        except OSError as error:
            raise ProviderUnavailable(f"the model in {self._folder.path} cannot be read: {error}") from error

    @property
    def identity(self) -> Sequence[str]:
        if self._folder is not None:
            origin = self.revision or self.weights
            return ["folder", origin, self._folder.pooling, str(self._folder.max_tokens or "")]
        return [self._model, self.revision] if self.revision else [self._model, "fastembed", self._hub_class]

    @lazy
    def _hub_class(self) -> str:
        """fastembed's class for the model, which determines its pooling."""
        for made in TextEmbedding.EMBEDDINGS_REGISTRY:
            if any(self._model == described.model for described in made._list_supported_models()):
                return made.__name__
        return ""

    @property
    def options(self) -> Mapping[str, Any]:
        given: dict[str, Any] = {"model": str(self._folder.path.resolve()) if self._folder else self._model}
        for name, own in zip(("query_prefix", "passage_prefix"), self._own_prefixes, strict=True):
            if getattr(self, name) != own:
                given[name] = getattr(self, name)
        return {**given, **self.changed("passage_tokens", "query_timeout", "revision")}

    __getstate__ = state_of

    def load(self) -> None:
        self.count_tokens("")

    def embed_batch(self, texts: Sequence[str]) -> list[Vector]:
        limit = self.max_tokens or sys.maxsize
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        lengths = [min(limit, len(encoding.ids)) for encoding in encodings]
        model, session = self._loaded, self._session
        results: list[Any] = [None] * len(texts)
        for slice_ in padded_slices(lengths, total=PADDED_TOKENS_AT_ONCE):
            with model.slices:
                vectors = list(session.passage_embed([texts[i] for i in slice_], batch_size=len(slice_)))
            for position, vector in zip(slice_, vectors, strict=True):
                results[position] = np.asarray(vector, dtype=np.float32)
        return results

    def embed_query(self, text: str) -> Vector:
        session = self._session
        with self._loaded.queries:
            return np.asarray(next(iter(session.query_embed([text]))), dtype=np.float32)

    @staticmethod
    def _available() -> set[str]:
        return {model["model"] for model in TextEmbedding.list_supported_models()}

    @lazy
    def _tokenizer(self) -> Any:
        tokenizer = type(self._session.model.tokenizer).from_str(self._session.model.tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @property
    def max_tokens(self) -> int | None:  # type: ignore[override]
        truncation = self._session.model.tokenizer.truncation
        return int(truncation["max_length"]) if truncation else None

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text).ids)

    def known_share(self, text: str) -> float:
        return known_share(self._tokenizer, text)

    def knows_word(self, word: str) -> bool:
        return knows_word(self._tokenizer, word)

    def count_all(self, texts: Sequence[str]) -> list[int]:
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        offsets: list[tuple[int, int]] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return offsets

    @property
    def _session(self) -> Any:
        return self._loaded.session(self._load_folder_model if self._folder else self._load_hub_model)

    @property
    def _loaded(self) -> LoadedModel:
        with _models.lock:
            return _models.loaded.setdefault(self._key, LoadedModel())

    @lazy
    def _key(self) -> ModelKey:
        if self._folder is None:
            return self._model, self._cache_dir, self._threads
        settings = [self._folder.path / name for name in SETTINGS if isfile(self._folder.path / name)]
        folder = self._folder
        return f"{self._alias(folder)}-{folder.max_tokens}-{hash_of_files(settings)}", None, self._threads

    def _load_hub_model(self) -> Any:
        try:
            return TextEmbedding(self._model, cache_dir=self._cache_dir, threads=self._threads, lazy_load=False)
        except Exception as error:  # what the hub's client, fastembed and onnxruntime raise has no common class
            advice = "Use the bundled model (provider 'static'), give FastEmbedProvider"
            raise not_loaded(f"model {self._model!r}", error, advice, self._cache_dir) from error

    def _load_folder_model(self) -> Any:
        assert self._folder is not None  # noqa: S101 - the caller checks
        try:
            return self._loaded_from(self._folder)
        except Exception as error:  # what fastembed and onnxruntime raise has no common class
            raise ProviderUnavailable(
                f"the model in {self._folder.path} could not be loaded ({type(error).__name__}: {error}). Its "
                "model.onnx may be incomplete, or a pointer of Git LFS"
            ) from error

    def _loaded_from(self, folder: ModelFolder) -> Any:
        alias = self._alias(folder)
        with _models.lock:
            if alias not in self._available():
                TextEmbedding.add_custom_model(
                    model=alias,
                    pooling=POOLING_TYPES[folder.pooling],
                    normalization=True,
                    sources=ModelSource(url="file://" + str(folder.path.resolve())),
                    dim=self.dimensions,
                    model_file="model.onnx",
                )
        session: Any = TextEmbedding(alias, specific_model_path=str(folder.path), threads=self._threads)
        shorten(session.model.tokenizer, folder.max_tokens)
        return session

    def _alias(self, folder: ModelFolder) -> str:
        return f"kameleon/{self.weights}-{folder.pooling.replace(' ', '-')}"


def shorten(tokenizer: Any, max_tokens: int | None) -> None:
    """Read `max_tokens` of a text at most, where the tokenizer itself would read more."""
    truncation = tokenizer.truncation
    if max_tokens is not None and truncation and max_tokens < truncation["max_length"]:
        tokenizer.enable_truncation(max_length=max_tokens, direction=truncation["direction"])
