"""Scores pairs by the modules that Sentence Transformers keeps beside a cross-encoder's transformer, whose ONNX file
ends with the states of the tokens: dense layers and normalisations. Imports this package alone."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .folder import CLS, NAMED_POOLING, read_json, read_modules, unusable
from .static import read_tensor

EPSILON = 1e-5
"""What torch.nn.LayerNorm adds to a variance."""

Floats = NDArray[np.float32]
Step = Callable[[Floats], Floats]

_erf = np.vectorize(math.erf, otypes=[np.float32])


def gelu(values: Floats) -> Floats:
    """As torch.nn.GELU, whose default is exact."""
    made: Floats = values * (1 + _erf(values / math.sqrt(2))) / 2
    return made


ACTIVATIONS: dict[str, Step] = {"GELU": gelu, "Identity": lambda values: values, "Tanh": np.tanh}


def read_head(folder: Path) -> Sequence[Step]:
    """The steps from the states of the first tokens to logits; none for a folder without modules. Raises InvalidInput
    for modules that cannot be run."""
    modules = read_modules(folder)
    kinds = [kind for kind, _ in modules]
    if not modules:
        return ()
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= READERS.keys():
        raise unusable(
            folder / "modules.json",
            f"its modules are {', '.join(kinds)}. Runnable: Transformer, Pooling, then {', '.join(READERS)}",
        )
    pooling = read_json(modules[1][1] / "config.json", {})
    if not pooling.get("pooling_mode_cls_token") and NAMED_POOLING.get(str(pooling.get("pooling_mode"))) != CLS:
        raise unusable(modules[1][1] / "config.json", "only the state of the first token (cls) can be scored")
    return [READERS[kind](path) for kind, path in modules[2:]]


def logits_of(head: Sequence[Step], states: Floats) -> Floats:
    for step in head:
        states = step(states)
    return states[:, 0]


def read_dense(folder: Path) -> Step:
    settings, weights = read_json(folder / "config.json", {}), folder / "model.safetensors"
    named = str(settings.get("activation_function", "Identity")).rpartition(".")[2]
    if named not in ACTIVATIONS:
        raise unusable(folder / "config.json", f"activation_function is {named}. Supported: {', '.join(ACTIVATIONS)}")
    matrix = np.array(read_tensor(weights, "linear.weight"), np.float32).T
    bias = np.array(read_tensor(weights, "linear.bias"), np.float32) if settings.get("bias", True) else np.float32(0)
    return lambda values: ACTIVATIONS[named](values @ matrix + bias)


def read_normalisation(folder: Path) -> Step:
    weights = folder / "model.safetensors"
    scale, bias = (np.array(read_tensor(weights, f"norm.{name}"), np.float32) for name in ("weight", "bias"))

    def normalised(values: Floats) -> Floats:
        centred = values - values.mean(axis=1, keepdims=True)
        made: Floats = centred / np.sqrt(values.var(axis=1, keepdims=True) + EPSILON) * scale + bias
        return made

    return normalised


READERS: dict[str, Callable[[Path], Step]] = {"Dense": read_dense, "LayerNorm": read_normalisation}
