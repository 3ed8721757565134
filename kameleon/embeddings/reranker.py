"""Cross-encoders through fastembed: one model reads a query and a text together and scores how well they match. Imports
`errors` and `forking`."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from os.path import isfile
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidInput, MissingExtra, ProviderUnavailable, seen
from ..forking import fork_waits, per_process, state_of
from .onnx_runtime import not_loaded
from .scoring_head import Floats, Step, logits_of, read_head
from .weights import hash_of_files

try:
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder
except ImportError as _error:
    raise MissingExtra("fastembed", "fastembed") from _error

DEFAULT_MODEL = "Xenova/ms-marco-MiniLM-L-6-v2"
PAIRS_AT_ONCE = 16
"""Bounds the memory of a run of the model. Chosen, not measured."""
MAX_TOKENS = 512
"""Bounds the tokens of a query and a text, unless `max_tokens` is given: a model reads twice as many in more than twice
the time. Chosen, not measured."""
CHARACTERS_A_TOKEN = 32
"""Bounds the characters of a text that are looked at, for each token of the window. Chosen, not measured."""
MODEL_FILES = ("model.onnx", "onnx/model.onnx")


class Calibration(NamedTuple):
    """The logit that scores .5, and how much more of it scores .73."""

    middle: float
    width: float


LOGISTIC = Calibration(0.0, 1.0)
ETTIN = Calibration(7.0, 1.5)
"""These models repeat the scores of another one, which are 10 to 12 for a text that answers a query and 1 to 9 for
others, in the ten examples that were published with them. Chosen by these, not measured."""


class Added(NamedTuple):
    """A model of the hub that fastembed does not list, in the layout of `scoring_head`."""

    size_in_gb: float
    license: str
    calibration: Calibration


ADDED = {
    f"cross-encoder/ettin-reranker-{parameters}-v1": Added(size, "apache-2.0", ETTIN)
    for parameters, size in (("17m", 0.07), ("32m", 0.13), ("68m", 0.27), ("150m", 0.6))
}
HEAD_FILES = (
    "modules.json",
    "1_Pooling/config.json",
    *(f"{module}/{file}" for module in ("2_Dense", "4_Dense") for file in ("config.json", "model.safetensors")),
    "3_LayerNorm/model.safetensors",
)


@dataclass(frozen=True)
class Loaded:
    encoder: Any
    head: Sequence[Step]
    characters: int

    def logits(self, query: str, texts: Sequence[str]) -> Floats:
        """Those of alike lengths are run together, since a run takes as long as its longest text."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        logits = np.zeros(len(texts), np.float32)
        for start in range(0, len(order), PAIRS_AT_ONCE):
            places = order[start : start + PAIRS_AT_ONCE]
            cut = [texts[place][: self.characters] for place in places]
            output = np.asarray(self.encoder.model.onnx_embed(query[: self.characters], cut).model_output)
            logits[places] = output if output.ndim == 1 else self._scored(output)
        return logits

    def _scored(self, states: Floats) -> Floats:
        if not self.head:
            raise InvalidInput(
                f"the reranker {self.encoder.model.model_name!r} makes states of tokens, not a score, and its folder "
                "has no modules.json that makes one of them: export it with its classification head, or copy the "
                "modules' folders (1_Pooling, 2_Dense, …), too"
            )
        return logits_of(self.head, states)


class FastEmbedReranker:
    """For `search(rerank=…)`. `model` is the name of a reranker that fastembed or ADDED lists, or a folder with
    `model.onnx` or `onnx/model.onnx` and `tokenizer.json`; it loads at first use. Scores are the model's logits through
    the logistic function, 0 to 1: of a `calibration` (middle, width) 1 / (1 + exp((middle - logit) / width)), by
    default that of ADDED, of others (0, 1). Of a query and a text `max_tokens` are read together, at most as many as
    the model does; the end of the longer one is cut off. `cache_dir` is where fetched models are kept (default:
    `FASTEMBED_CACHE_PATH`).
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        cache_dir: str | None = None,
        threads: int | None = None,
        max_tokens: int = MAX_TOKENS,
        calibration: tuple[float, float] | None = None,
    ) -> None:
        self._model = model
        self._folder = Path(model) if isfile(Path(model) / "tokenizer.json") else None
        self._cache_dir = cache_dir
        self._threads = threads
        self._max_tokens = max_tokens
        own = ADDED[model].calibration if model in ADDED and self._folder is None else LOGISTIC
        self._calibration = own if calibration is None else check_calibration(calibration)
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 8:
            raise InvalidInput(f"max_tokens is a whole number of tokens from 8, not {seen(max_tokens)}")
        if self._folder is None and model not in available():
            raise InvalidInput(
                f"{model!r} is neither a model folder (with model.onnx and tokenizer.json) nor a reranker that is "
                f"known. Known: {', '.join(sorted(available()))}"
            )

    def __call__(self, query: str, texts: Sequence[str]) -> list[float]:
        """Raises ProviderUnavailable where the model can neither be found nor fetched."""
        with self._running:
            logits = self._loaded.logits(query, list(texts)).astype(np.float64)
        middle, width = self._calibration
        return [float(score) for score in 1 / (1 + np.exp(-np.clip((logits - middle) / width, -500, 500)))]

    __getstate__ = state_of

    @per_process
    def _running(self) -> RLock:
        return RLock()

    @per_process
    def _loaded(self) -> Loaded:
        with fork_waits():
            encoder: Any = self._load()
        tokenizer = encoder.model.tokenizer
        window = tokenizer.truncation["max_length"]
        if self._max_tokens < window:
            tokenizer.enable_truncation(self._max_tokens, direction=tokenizer.truncation["direction"])
        characters = CHARACTERS_A_TOKEN * min(window, self._max_tokens)
        return Loaded(encoder, read_head(self._folder or encoder.model._model_dir), characters)

    def _load(self) -> TextCrossEncoder:
        if self._folder is not None:
            return self._load_folder(self._folder)
        if self._model in ADDED and self._model not in listed():
            size, license_, _ = ADDED[self._model]
            TextCrossEncoder.add_custom_model(
                self._model,
                ModelSource(hf=self._model),
                "onnx/model.onnx",
                license=license_,
                size_in_gb=size,
                additional_files=list(HEAD_FILES),
            )
        try:
            return TextCrossEncoder(self._model, cache_dir=self._cache_dir, threads=self._threads)
        except Exception as error:  # what the hub's client, fastembed and onnxruntime raise has no common class
            raise not_loaded(f"reranker {self._model!r}", error, "Give FastEmbedReranker", self._cache_dir) from error

    def _load_folder(self, folder: Path) -> TextCrossEncoder:
        file = next((name for name in MODEL_FILES if isfile(folder / name)), None)
        if file is None:
            raise ProviderUnavailable(f"the folder {folder} has neither {' nor '.join(MODEL_FILES)}")
        alias = f"kameleon/{folder.resolve().name}-{hash_of_files([folder / file])}-{Path(file).parts[0]}"
        if alias not in listed():
            TextCrossEncoder.add_custom_model(
                model=alias, sources=ModelSource(url="file://" + str(folder.resolve())), model_file=file
            )
        return TextCrossEncoder(alias, specific_model_path=str(folder), threads=self._threads)


def check_calibration(given: object) -> Calibration:
    """Raises InvalidInput."""
    are_two = isinstance(given, tuple) and len(given) == 2 and all(type(value) in (int, float) for value in given)
    if isinstance(given, tuple) and are_two and isfinite(given[0]) and 0 < given[1] < inf:
        return Calibration(float(given[0]), float(given[1]))
    raise InvalidInput(f"calibration is two numbers, (middle, width), of which width is positive, not {seen(given)}")


def listed() -> set[str]:
    return {model["model"] for model in TextCrossEncoder.list_supported_models()}


def available() -> set[str]:
    return listed() | ADDED.keys()
