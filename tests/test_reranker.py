"""The reranker, with a real ONNX cross-encoder: its logit is the sum of its tokens' numbers."""

import json
from pathlib import Path

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
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(LOGITS)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"pad_token_id": 0}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 64, "pad_token": "[PAD]"}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "[PAD]", "unk_token": "[UNK]"}))
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
