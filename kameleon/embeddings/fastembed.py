"""Local transformer models through fastembed: any of its hub models by name, or a model folder by path.

fastembed pads every text of a batch to the longest one, so a batch of mixed lengths is slower than one text at a
time. Texts are therefore sorted by their token count and cut by padded tokens before fastembed sees them.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from os.path import isfile
from pathlib import Path
from threading import RLock
from typing import Any, ClassVar

import numpy as np

from ..errors import InvalidInput, MissingExtra, ProviderUnavailable
from ..forking import lazy, per_process, state_of, uncut
from . import onnx_runtime  # noqa: F401 - before fastembed
from .batching import padded_slices
from .knowing import known_share
from .provider import EmbeddingProvider, Vector, check_passage_tokens

try:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType
except ImportError as error:
    raise MissingExtra("fastembed", "fastembed") from error

DEFAULT_MODEL = "BAAI/bge-small-en-v1.5"
PADDED_TOKENS_AT_ONCE = 4096

FAILED_FOR_S = 60.0
"""fastembed asks the hub for 40 seconds before it gives up: for this long, a model that failed is not asked again."""

Key = tuple[str, str | None, int | None]


class Models:
    """What is loaded, by model, cache folder and threads; one batch at a time runs."""

    def __init__(self) -> None:
        self.failures: dict[Key, tuple[float, ProviderUnavailable]] = {}

    @per_process
    def running(self) -> RLock:
        return RLock()

    @per_process
    def sessions(self) -> dict[Key, Any]:
        return {}


_models = Models()


class FastEmbedProvider(EmbeddingProvider):
    """`model` is a fastembed model name or a folder with `model.onnx` and `tokenizer.json` (mean-pooled, normalised).

    The model loads at first use, once a process for each model and `threads`, and runs one batch at a time; a forked
    process loads its own. `cache_dir` is where fetched models are kept (default: `FASTEMBED_CACHE_PATH`).
    `passage_tokens` as in EmbeddingProvider.
    """

    name: ClassVar[str] = "fastembed"
    vector_weight = 0.7
    attempts = 1

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        cache_dir: str | None = None,
        threads: int | None = None,
        passage_tokens: int | None = None,
    ) -> None:
        self._model = model
        self.passage_tokens = check_passage_tokens(passage_tokens)
        self._folder = Path(model) if isfile(Path(model) / "tokenizer.json") else None
        self._cache_dir = cache_dir
        self._threads = threads
        if self._folder is None and model not in self._known():
            raise InvalidInput(
                f"{model!r} is neither a model folder (with model.onnx and tokenizer.json) nor a model that fastembed "
                f"knows. Known: {', '.join(sorted(self._known())[:8])}, …"
            )

    @property
    def model_name(self) -> str:  # type: ignore[override]
        return self._folder.resolve().name if self._folder else self._model

    @lazy
    def dimensions(self) -> int:
        if self._folder is None:
            return int(TextEmbedding.get_embedding_size(self._model))
        return int(json.loads((self._folder / "config.json").read_text("utf-8"))["hidden_size"])

    @lazy
    def revision(self) -> str:
        if self._folder is None:
            return ""
        with (self._folder / "model.onnx").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    @property
    def options(self) -> Mapping[str, Any]:
        return {"model": str(self._folder.resolve()) if self._folder else self._model, **self.passage_options}

    __getstate__ = state_of

    def load(self) -> None:
        self.count_tokens("")

    def embed_batch(self, texts: Sequence[str]) -> list[Vector]:
        limit = self.max_tokens or sys.maxsize
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        lengths = [min(limit, len(encoding.ids)) for encoding in encodings]
        with _models.running:
            results: list[Any] = [None] * len(texts)
            for slice_ in padded_slices(lengths, total=PADDED_TOKENS_AT_ONCE):
                vectors = self._session.passage_embed([texts[i] for i in slice_], batch_size=len(slice_))
                for position, vector in zip(slice_, vectors, strict=True):
                    results[position] = np.asarray(vector, dtype=np.float32)
            return results

    def embed_query(self, text: str) -> Vector:
        with _models.running:
            return np.asarray(next(iter(self._session.query_embed([text]))), dtype=np.float32)

    @staticmethod
    def _known() -> dict[str, Any]:
        return {model["model"]: model for model in TextEmbedding.list_supported_models()}

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

    def count_all(self, texts: Sequence[str]) -> list[int]:
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        offsets: list[tuple[int, int]] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return offsets

    @property
    def _session(self) -> Any:
        key = self._key
        with _models.running:
            failed_at, error = _models.failures.get(key, (-FAILED_FOR_S, None))
            if error is not None and time.monotonic() - failed_at < FAILED_FOR_S:
                raise ProviderUnavailable(str(error)) from error
            if key not in _models.sessions:
                with uncut():
                    loaded = self._load_folder(self._folder) if self._folder else self._load_hub_model()
                _models.sessions[key] = loaded
            return _models.sessions[key]

    @property
    def _key(self) -> Key:
        return self.options["model"], self._cache_dir, self._threads

    def _load_hub_model(self) -> Any:
        try:
            return TextEmbedding(self._model, cache_dir=self._cache_dir, threads=self._threads, lazy_load=False)
        except Exception as error:
            where = self._cache_dir or os.environ.get("FASTEMBED_CACHE_PATH") or "the temporary folder"
            unavailable = ProviderUnavailable(
                f"model {self._model!r} could not be loaded, nor fetched ({type(error).__name__}). Use the bundled "
                "model (provider 'static'), give FastEmbedProvider the path of a local model folder, or set "
                f"FASTEMBED_CACHE_PATH to a folder that already holds the model (looked in {where})"
            )
            _models.failures[self._key] = (time.monotonic(), unavailable)
            raise unavailable from error

    def _load_folder(self, folder: Path) -> Any:
        alias = f"kameleon/{self.model_name}-{self.revision}"
        if alias not in self._known():
            TextEmbedding.add_custom_model(
                model=alias,
                pooling=PoolingType.MEAN,
                normalization=True,
                sources=ModelSource(url="file://" + str(folder.resolve())),
                dim=self.dimensions,
                model_file="model.onnx",
            )
        return TextEmbedding(alias, specific_model_path=str(folder), threads=self._threads)
