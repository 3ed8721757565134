"""Cross-encoders through fastembed: one model reads a question and a text together and says how well they fit."""

import hashlib
import os
from collections.abc import Sequence
from os.path import isfile
from pathlib import Path
from threading import RLock

import numpy as np

from ..errors import InvalidInput, MissingExtra, ProviderUnavailable
from ..forking import per_process, state_of, uncut
from . import onnx_runtime  # noqa: F401 - before fastembed

try:
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder
except ImportError as error:
    raise MissingExtra("fastembed", "fastembed") from error

DEFAULT_MODEL = "Xenova/ms-marco-MiniLM-L-6-v2"
PAIRS_AT_ONCE = 16


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
        if self._folder is None and model not in known():
            raise InvalidInput(
                f"{model!r} is neither a model folder (with model.onnx and tokenizer.json) nor a reranker that "
                f"fastembed knows. Known: {', '.join(sorted(known()))}"
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
        with uncut():
            return self._load()

    def _load(self) -> TextCrossEncoder:
        if self._folder is not None:
            return self._load_folder(self._folder)
        try:
            return TextCrossEncoder(self._model, cache_dir=self._cache_dir, threads=self._threads)
        except Exception as error:
            where = self._cache_dir or os.environ.get("FASTEMBED_CACHE_PATH") or "the temporary folder"
            raise ProviderUnavailable(
                f"reranker {self._model!r} could not be loaded, nor fetched ({type(error).__name__}). Give "
                "FastEmbedReranker the path of a local model folder, or set FASTEMBED_CACHE_PATH to a folder that "
                f"already holds the model (looked in {where})"
            ) from error

    def _load_folder(self, folder: Path) -> TextCrossEncoder:
        with (folder / "model.onnx").open("rb") as file:
            alias = f"kameleon/{folder.resolve().name}-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
        if alias not in known():
            TextCrossEncoder.add_custom_model(
                model=alias, sources=ModelSource(url="file://" + str(folder.resolve())), model_file="model.onnx"
            )
        return TextCrossEncoder(alias, specific_model_path=str(folder), threads=self._threads)


def known() -> set[str]:
    return {model["model"] for model in TextCrossEncoder.list_supported_models()}
