"""Reads a transformer's folder in the layout of Sentence Transformers: pooling, prompts, dimensions. Imports
`errors`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, seen

MEAN, CLS, LAST_TOKEN = "mean", "cls", "last token"
POOLING = {"cls_token": CLS, "mean_tokens": MEAN, "mean_sqrt_len_tokens": MEAN, "lasttoken": LAST_TOKEN}
"""By what follows `pooling_mode_`. A mean over the square root of the length differs from the mean in length alone."""
NAMED_POOLING = {"cls": CLS, "mean": MEAN, "mean_sqrt_len_tokens": MEAN, "lasttoken": LAST_TOKEN}
MODULES = ("Transformer", "Pooling", "Normalize")
QUERY_PROMPTS, PASSAGE_PROMPTS = ("query",), ("document", "passage", "corpus")
WIDTHS = ("hidden_size", "dim", "d_model", "n_embd")
EXTERNAL_WEIGHTS = ("model.onnx_data", "model.onnx.data")


@dataclass(frozen=True)
class ModelFolder:
    path: Path
    dimensions: int
    pooling: str = MEAN
    max_tokens: int | None = None
    query_prefix: str = ""
    passage_prefix: str = ""

    @property
    def weights(self) -> list[Path]:
        """What the vectors are computed from, the graph first."""
        external = [self.path / name for name in EXTERNAL_WEIGHTS if isfile(self.path / name)]
        return [self.path / "model.onnx", *external, self.path / "tokenizer.json"]


def read_folder(path: Path) -> ModelFolder:
    """Raises InvalidInput for a folder whose model cannot be run as its files declare."""
    modules = read_modules(path)
    kinds = [kind for kind, _ in modules]
    if unknown := [kind for kind in kinds if kind not in MODULES]:
        raise unusable(path / "modules.json", f"it has a module {seen(unknown[0])}. Runnable: {', '.join(MODULES)}")
    folder = next((folder for kind, folder in modules if kind == "Pooling"), None)
    if modules and folder is None:
        raise unusable(path / "modules.json", "it has no module Pooling")
    pooling_file = (folder or path / "1_Pooling") / "config.json"
    settings = read_json(pooling_file, {})
    query_prefix, passage_prefix = _prompts(path / "config_sentence_transformers.json")
    if settings.get("include_prompt") is False and (query_prefix or passage_prefix):
        raise unusable(
            pooling_file, "include_prompt is false: prompts are left out of the mean, which is not supported"
        )
    return ModelFolder(
        path,
        _dimensions(path, settings),
        _pooling(pooling_file, settings),
        _max_tokens(path),
        query_prefix,
        passage_prefix,
    )


def read_modules(path: Path) -> list[tuple[str, Path]]:
    """The classes of a model's modules and their folders; none where the folder lists none. Raises InvalidInput."""
    modules = read_json(path / "modules.json", [])
    if not all(isinstance(module, dict) and isinstance(module.get("path"), str) for module in modules):
        raise unusable(path / "modules.json", "it is no list of modules with a path")
    return [(str(module.get("type", "")).rpartition(".")[2], path / module["path"]) for module in modules]


def _dimensions(path: Path, pooling: Mapping[str, Any]) -> int:
    config = read_json(path / "config.json", {})
    found = [pooling.get("word_embedding_dimension"), *(config.get(name) for name in WIDTHS)]
    width = next((width for width in found if isinstance(width, int) and width > 0), None)
    if width is None:
        raise unusable(path / "config.json", f"it has none of {', '.join(WIDTHS)}, so the vectors' length is unknown")
    return width


def _pooling(file: Path, settings: Mapping[str, Any]) -> str:
    named = settings.get("pooling_mode")
    if named is not None:
        if not isinstance(named, str) or named not in NAMED_POOLING:
            raise unusable(file, f"pooling_mode is {seen(named)}. Supported: {', '.join(NAMED_POOLING)}")
        return NAMED_POOLING[named]
    prefix = "pooling_mode_"
    modes = [name.removeprefix(prefix) for name, is_set in settings.items() if name.startswith(prefix) and is_set]
    if unknown := [mode for mode in modes if mode not in POOLING]:
        raise unusable(file, f"pooling_mode_{unknown[0]} is not supported. Supported: {', '.join(POOLING)}")
    found = {POOLING[mode] for mode in modes}
    if len(found) > 1:
        raise unusable(file, f"several poolings are joined, {' and '.join(sorted(found))}, which is not supported")
    return found.pop() if found else MEAN


def _max_tokens(path: Path) -> int | None:
    limit = read_json(path / "sentence_bert_config.json", {}).get("max_seq_length")
    return limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None


def _prompts(file: Path) -> tuple[str, str]:
    """Before a query, and before a passage."""
    settings = read_json(file, {})
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise unusable(file, f"prompts are texts by name, not {seen(prompts)}")
    default = prompts.get(str(settings.get("default_prompt_name")), "")
    query, passage = (
        next((prompts[name] for name in names if name in prompts), default)
        for names in (QUERY_PROMPTS, PASSAGE_PROMPTS)
    )
    return query, passage


def read_json(file: Path, missing: Any) -> Any:
    """The file's content, of the type of `missing`, which is returned where there is no file."""
    if not isfile(file):
        return missing
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise unusable(file, f"{type(error).__name__}: {error}") from error
    if not isinstance(content, type(missing)):
        raise unusable(file, f"it holds {type(content).__name__}, not {type(missing).__name__}")
    return content


def unusable(file: Path, reason: str) -> InvalidInput:
    """The error of a folder whose model cannot be run as this file declares."""
    return InvalidInput(f"the model folder cannot be used: {file}: {reason}")
