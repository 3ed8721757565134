"""Cross-encoders through fastembed: one model reads a query and a text together and scores how well they match. Imports
`errors` and `forking`."""

from collections.abc import Sequence
from os.path import isfile
from pathlib import Path
from threading import RLock

import numpy as np

from ..errors import InvalidInput, MissingExtra
from ..forking import fork_waits, per_process, state_of
from .onnx_runtime import not_loaded
from .weights import hash_of_files

try:
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder
except ImportError as _error:
    raise MissingExtra("fastembed", "fastembed") from _error

DEFAULT_MODEL = "Xenova/ms-marco-MiniLM-L-6-v2"
PAIRS_AT_ONCE = 16
"""Bounds the memory of a run of the model. Chosen, not measured."""


class FastEmbedReranker:
    """For `search(rerank=…)`. `model` is a fastembed reranker's name or a folder with `model.onnx` and
    `tokenizer.json`; it loads at first use. Scores are the model's logits through the logistic function, 0 to 1.
    `cache_dir` is where fetched models are kept (default: `FASTEMBED_CACHE_PATH`).
    """

    def __init__(self, model: str = DEFAULT_MODEL, *, cache_dir: str | None = None, threads: int | None = None) -> None:
        self._model = model
        self._folder = Path(model) if isfile(Path(model) / "tokenizer.json") else None
        self._cache_dir = cache_dir
        self._threads = threads
        if self._folder is None and model not in available():
            raise InvalidInput(
                f"{model!r} is neither a model folder (with model.onnx and tokenizer.json) nor a reranker that "
                f"fastembed knows. Known: {', '.join(sorted(available()))}"
            )

    def __call__(self, query: str, texts: Sequence[str]) -> list[float]:
        """Raises ProviderUnavailable where the model can neither be found nor fetched."""
        with self._running:
            logits = np.fromiter(self._encoder.rerank(query, list(texts), batch_size=PAIRS_AT_ONCE), np.float64)
        return [float(score) for score in 1 / (1 + np.exp(-np.clip(logits, -500, 500)))]

    __getstate__ = state_of

    @per_process
    def _running(self) -> RLock:
        return RLock()

    @per_process
    def _encoder(self) -> TextCrossEncoder:
        with fork_waits():
            return self._load()

    def _load(self) -> TextCrossEncoder:
        if self._folder is not None:
            return self._load_folder(self._folder)
        try:
            return TextCrossEncoder(self._model, cache_dir=self._cache_dir, threads=self._threads)
        except Exception as error:  # what the hub's client, fastembed and onnxruntime raise has no common class
            raise not_loaded(f"reranker {self._model!r}", error, "Give FastEmbedReranker", self._cache_dir) from error

    def _load_folder(self, folder: Path) -> TextCrossEncoder:
        alias = f"kameleon/{folder.resolve().name}-{hash_of_files([folder / 'model.onnx'])}"
        if alias not in available():
            TextCrossEncoder.add_custom_model(
                model=alias, sources=ModelSource(url="file://" + str(folder.resolve())), model_file="model.onnx"
            )
        return TextCrossEncoder(alias, specific_model_path=str(folder), threads=self._threads)


def available() -> set[str]:
    return {model["model"] for model in TextCrossEncoder.list_supported_models()}
