"""The reranker, with real ONNX cross-encoders: of one the logit is the sum of its tokens' numbers, others have the
interface of Ettin's, a ModernBERT whose file ends with the states of the tokens."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from kameleon import SearchEngine, create_engine
from kameleon.embeddings import FastEmbedReranker
from kameleon.errors import InvalidInput, ProviderUnavailable

from .conftest import ids

LOGITS = {"[PAD]": 0.0, "[UNK]": 0.0, "[CLS]": 0.0, "[SEP]": 0.0, "lamp": -1.0, "oak": 2.0, "pine": 1.0}


def save_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(LOGITS)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"pad_token_id": 0}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 64, "pad_token": "[PAD]"}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "[PAD]", "unk_token": "[UNK]"}))


@pytest.fixture
def cross_encoder(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-cross-encoder"
    folder.mkdir()
    numbers = np.array(list(LOGITS.values()), dtype=np.float32)[:, None]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["numbers", "input_ids"], ["gathered"]),
            helper.make_node("ReduceSum", ["gathered", "over"], ["logits"], keepdims=0),
        ],
        "sum",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(numbers, "numbers"), numpy_helper.from_array(np.array([1], dtype=np.int64), "over")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    save_tokenizer(folder)
    return folder


WIDTH = 8
ETTIN = "cross-encoder/ettin-reranker-17m-v1"


def weights(seed: int = 1) -> dict[str, np.ndarray]:
    """Of a transformer of one embedding a token, and of the modules that score the first token's state."""
    chance = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings": (len(LOGITS), WIDTH),
        "dense": (WIDTH, WIDTH),
        "scale": (WIDTH,),
        "shift": (WIDTH,),
        "score": (1, WIDTH),
        "bias": (1,),
    }
    made = {name: chance.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    made["embeddings"][list(LOGITS).index("[UNK]")] = 0
    return made


def modern_bert(file: Path, numbers: Mapping[str, np.ndarray], *, is_whole: bool = False) -> None:
    """A model with ModernBERT's inputs, which has no token types: each token's state is the sum of all tokens'
    embeddings. One that `is_whole` ends with logits, as ONNX computes them."""
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["own"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["masks"]),
        helper.make_node("Mul", ["own", "masks"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "tokens"], ["sum"]),
        helper.make_node("Sub", ["own", "own"], ["zeros"]),
        helper.make_node("Add", ["zeros", "sum"], ["last_hidden_state"]),
    ]
    constants = {"last": np.array([2], np.int64), "tokens": np.array([1], np.int64)}
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    if is_whole:
        nodes += [
            helper.make_node("Gather", ["last_hidden_state", "first"], ["state"], axis=1),
            helper.make_node("MatMul", ["state", "dense"], ["mapped"]),
            helper.make_node("Gelu", ["mapped"], ["active"]),
            helper.make_node("LayerNormalization", ["active", "scale", "shift"], ["even"], epsilon=1e-5),
            helper.make_node("MatMul", ["even", "score"], ["scored"]),
            helper.make_node("Add", ["scored", "bias"], ["logits"]),
        ]
        constants["first"] = np.array(0, np.int64)
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])
    used = dict(numbers) if is_whole else {"embeddings": numbers["embeddings"]}
    turned = {name: value.T if name in ("dense", "score") else value for name, value in used.items()}
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    initial = [numpy_helper.from_array(value.copy(), name) for name, value in {**turned, **constants}.items()]
    graph = helper.make_graph(nodes, "states", inputs, [output], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(file))


def safetensors(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    header, data = dict[str, Any](), b""
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": (len(data), len(data) + tensor.nbytes)}
        data += tensor.tobytes()
    encoded = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


def save_ettin(folder: Path, numbers: Mapping[str, np.ndarray]) -> Path:
    """A folder as the hub has Ettin's rerankers: the transformer in one file, what scores its states in others."""
    modern_bert(folder / "onnx/model.onnx", numbers)
    save_tokenizer(folder)
    modules = ("Transformer", "Pooling", "Dense", "LayerNorm", "Dense")
    paths = ["", *(f"{place}_{kind}" for place, kind in enumerate(modules[1:], 1))]
    types = [f"sentence_transformers.models.{kind}" for kind in modules]
    (folder / "modules.json").write_text(
        json.dumps(
            [{"idx": n, "path": path, "type": type_} for n, (path, type_) in enumerate(zip(paths, types, strict=True))]
        )
    )
    for path in paths[1:]:
        (folder / path).mkdir()
    activation = {"2_Dense": "torch.nn.modules.activation.GELU", "4_Dense": "torch.nn.modules.linear.Identity"}
    for path, name in activation.items():
        settings = {"activation_function": name, "bias": path == "4_Dense"}
        (folder / path / "config.json").write_text(json.dumps(settings))
    (folder / "1_Pooling/config.json").write_text(json.dumps({"embedding_dimension": WIDTH, "pooling_mode": "cls"}))
    safetensors(folder / "2_Dense/model.safetensors", {"linear.weight": numbers["dense"]})
    safetensors(
        folder / "3_LayerNorm/model.safetensors", {"norm.weight": numbers["scale"], "norm.bias": numbers["shift"]}
    )
    safetensors(
        folder / "4_Dense/model.safetensors", {"linear.weight": numbers["score"], "linear.bias": numbers["bias"]}
    )
    return folder


@pytest.fixture
def ettin(tmp_path: Path) -> Path:
    return save_ettin(tmp_path / "ettin", weights())


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The model of `ettin` in one ONNX file."""
    folder = tmp_path / "whole"
    modern_bert(folder / "model.onnx", weights(), is_whole=True)
    save_tokenizer(folder)
    return folder


def test_a_cross_encoder_in_a_folder_orders_hits(cross_encoder: Path) -> None:
    search = SearchEngine(create_engine("sqlite://"))
    texts = ["lamp of pine", "lamp of oak and oak", "lamp", "lamp of oak"]
    search.index_records_batch([("Lamp", str(n), text) for n, text in enumerate(texts)])
    found = search.search("lamp", rerank=FastEmbedReranker(str(cross_encoder)))
    assert ids(found) == ["1", "3", "0", "2"]
    logits = [-2 + 4, -2 + 2, -2 + 1, -2]
    assert [hit.score for hit in found] == pytest.approx([1 / (1 + np.exp(-logit)) for logit in logits])
    assert ids(search.search("lamp", rerank=FastEmbedReranker(str(cross_encoder)), min_score=0.6)) == ["1"]


def test_a_reranker_that_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="neither a model folder"):
        FastEmbedReranker("no-such-model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ProviderUnavailable, match="could not be loaded, nor fetched"):
        FastEmbedReranker(cache_dir=str(tmp_path))("query", ["text"])


TEXTS: Sequence[str] = ["oak", "pine lamp", "lamp of oak and oak", "", "pine " * 9, "oak pine lamp " * 4] * 4


def test_modules_beside_the_model_score_as_a_whole_model_does(ettin: Path, whole: Path) -> None:
    wanted = FastEmbedReranker(str(whole))("lamp", TEXTS)
    assert len(set(wanted)) >= 5
    assert 0 < min(wanted) < max(wanted) < 1
    assert FastEmbedReranker(str(ettin))("lamp", TEXTS) == pytest.approx(wanted, abs=1e-6)
    assert FastEmbedReranker(str(ettin))("lamp", []) == []


def test_a_model_that_is_added_to_fastembeds_is_had_by_name(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cached = tmp_path / "cache" / f"models--{ETTIN.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text("9e4aa35321a6dd1a43ca313f500c4b4f7cfb5cc6")
    save_ettin(cached / "snapshots/9e4aa35321a6dd1a43ca313f500c4b4f7cfb5cc6", weights())
    search = SearchEngine(create_engine("sqlite://"))
    search.index_records_batch(
        [("Lamp", str(n), text) for n, text in enumerate(["lamp oak", "lamp pine", "lamp oak oak"])]
    )
    reranker = FastEmbedReranker(ETTIN, cache_dir=str(tmp_path / "cache"))
    found = search.search("lamp", rerank=reranker)
    scores = FastEmbedReranker(str(whole), calibration=(7, 1.5))("lamp", [hit.matched_text for hit in found])
    assert [hit.score for hit in found] == pytest.approx(scores, abs=1e-6)
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3
    with pytest.raises(ProviderUnavailable, match=f"reranker '{ETTIN}' could not be loaded, nor fetched"):
        FastEmbedReranker(ETTIN, cache_dir=str(tmp_path / "empty"))("lamp", ["oak"])


def test_so_many_tokens_of_a_query_and_a_text_are_read(cross_encoder: Path, ettin: Path) -> None:
    around = len(["[CLS]", "lamp", "[SEP]", "[SEP]"])
    for given, read in ((512, 64 - around), (64, 64 - around), (16, 16 - around), (8, 8 - around)):
        for folder in (cross_encoder, ettin):
            last, beyond = ("x " * before + "oak " + "x " * 10_000 for before in (read - 1, read))
            reranker = FastEmbedReranker(str(folder), max_tokens=given)
            wanted = [FastEmbedReranker(str(folder))("lamp", ["x " * (read - 1) + end])[0] for end in ("oak", "x")]
            assert reranker("lamp", [last, beyond]) == pytest.approx(wanted, abs=1e-6)
            assert abs(wanted[0] - wanted[1]) > 0.01
    for wrong in (7, "512", True):
        with pytest.raises(InvalidInput, match="max_tokens is a whole number of tokens from 8"):
            FastEmbedReranker(max_tokens=wrong)  # type: ignore[arg-type]


def test_a_model_that_cannot_be_scored_is_refused(ettin: Path, tmp_path: Path) -> None:
    def refused(file: str, content: Any, message: str) -> None:
        before = (ettin / file).read_text()
        (ettin / file).write_text(json.dumps(content))
        with pytest.raises(InvalidInput, match=message):
            FastEmbedReranker(str(ettin))("lamp", ["oak"])
        (ettin / file).write_text(before)

    refused("1_Pooling/config.json", {"pooling_mode": "mean"}, "only the state of the first token")
    refused("2_Dense/config.json", {"activation_function": "torch.nn.ReLU"}, "activation_function is ReLU")
    refused(
        "modules.json", [{"path": "", "type": "Transformer"}], "its modules are Transformer. Runnable: Transformer, P"
    )
    refused("modules.json", [{"type": "Transformer"}], "it is no list of modules with a path")
    refused("modules.json", [], r"makes states of tokens, not a score, and its folder has no modules\.json")
    assert FastEmbedReranker(str(ettin))("lamp", ["oak"])
    (ettin / "onnx/model.onnx").unlink()
    with pytest.raises(ProviderUnavailable, match=r"has neither model\.onnx nor onnx/model\.onnx"):
        FastEmbedReranker(str(ettin))("lamp", ["oak"])


def test_logits_are_calibrated(cross_encoder: Path) -> None:
    plain, wide = (FastEmbedReranker(str(cross_encoder), calibration=given) for given in ((0, 1), (3.0, 2.0)))
    texts = ["lamp of pine", "lamp of oak and oak"]  # logits -1 and 2
    assert plain("lamp", texts) == FastEmbedReranker(str(cross_encoder))("lamp", texts)
    assert wide("lamp", texts) == pytest.approx([1 / (1 + np.exp(2)), 1 / (1 + np.exp(0.5))])
    for wrong in (1, (1,), (0, 0), (0, -1), ("0", 1), (float("nan"), 1), (0, float("inf")), (True, 1)):
        with pytest.raises(InvalidInput, match=r"calibration is two numbers, \(middle, width\)"):
            FastEmbedReranker(str(cross_encoder), calibration=wrong)  # type: ignore[arg-type]
