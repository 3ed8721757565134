"""Fingerprints: which vectors may be compared, and what a registry row needs to make the same provider again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kameleon.embeddings import CallableProvider, FastEmbedProvider, OpenAIProvider, StaticProvider, get_provider
from kameleon.embeddings.folder import CLS, LAST_TOKEN, MEAN, read_folder
from kameleon.embeddings.server_urls import server_of
from kameleon.errors import InvalidInput
from stress.workloads.small_model import small_model


def network(base_url: str | None = "http://one:8000/v1", **options: Any) -> OpenAIProvider:
    return OpenAIProvider("m", api_key="local-key", base_url=base_url, **{"dimensions": 8, **options})


def own(**limits: Any) -> CallableProvider:
    return CallableProvider(lambda texts: [[1.0, 0.0] for _ in texts], dimensions=2, model_name="own", **limits)


SAME_SERVER = [
    "http://one:8000/v1/",
    "HTTP://ONE:8000//v1",
    "http://user:secret@one:8000/v1",
    "http://one:8000/v1?api-key=secret",
    "http://one:8000/v1#part",
]
OTHER_SERVER = [
    None,
    "http://one:8001/v1",
    "http://one/v1",
    "https://one:8000/v1",
    "http://one:8000/V1",
    "http://two/v1",
]


@pytest.mark.parametrize("url", SAME_SERVER)
def test_one_server_is_one_model_however_its_url_is_written(url: str) -> None:
    assert network(url).fingerprint == network().fingerprint


@pytest.mark.parametrize("url", OTHER_SERVER)
def test_a_name_on_another_server_is_another_model(url: str | None) -> None:
    assert network(url).fingerprint != network().fingerprint
    assert network(url, revision="r1").fingerprint == network(revision="r1").fingerprint != network().fingerprint
    assert network(revision="r2").fingerprint != network(revision="r1").fingerprint


def test_default_ports_and_addresses_of_six_bytes_groups_are_written_one_way() -> None:
    assert server_of("https://Host.:443/v1") == server_of("https://host/v1/") == "https://host/v1"
    assert server_of("http://[::1]:8000/v1") == "http://[::1]:8000/v1"
    assert server_of("http://user:secret@host:port/v1?key=secret") == "http://host:port/v1"


def test_openai_s_own_server_is_the_default_and_the_environment_s_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert network("https://api.openai.com/v1/").fingerprint == network(None).fingerprint
    monkeypatch.setenv("OPENAI_BASE_URL", "http://one:8000/v1")
    assert network(None).fingerprint == network().fingerprint
    assert network(None).options["base_url"] == "http://one:8000/v1"


OPTIONS: dict[str, Any] = {
    "max_tokens": 512,
    "batch_size": 7,
    "passage_tokens": 64,
    "query_prefix": "query: ",
    "passage_prefix": "passage: ",
    "query_timeout": 1.5,
    "timeout_s": 5.0,
    "revision": "r1",
}


@pytest.mark.parametrize("provider", [network(**OPTIONS), own(), network(), StaticProvider()])
def test_options_hold_no_key_and_can_be_written_as_json(provider: Any) -> None:
    options = json.loads(json.dumps(dict(provider.options)))
    assert "local-key" not in json.dumps(options)
    if provider.name:
        again = get_provider(provider.name, **options)
        assert again.fingerprint == provider.fingerprint
        assert dict(again.options) == options


def test_every_option_that_was_given_is_kept() -> None:
    assert network(**OPTIONS).options == {"model": "m", "dimensions": 8, "base_url": "http://one:8000/v1", **OPTIONS}
    changed = network()
    changed.query_prefix, changed.passage_prefix, changed.concurrency = "q: ", "p: ", 2
    kept = {"query_prefix": "q: ", "passage_prefix": "p: ", "concurrency": 2}
    assert changed.options == {**network().options, **kept}
    assert network("http://u:p@one/v1?api-version=1&key=secret").options["base_url"] == "http://one/v1?api-version=1"


def test_dimensions_are_kept_where_they_were_given_and_nowhere_else() -> None:
    assert "dimensions" not in OpenAIProvider("m", base_url="http://one/v1").options
    assert OpenAIProvider().dimensions == 384
    assert OpenAIProvider("text-embedding-ada-002").dimensions == 1536


@pytest.mark.parametrize("name", ["query_prefix", "passage_prefix", "revision"])
def test_prefixes_and_revision_belong_to_the_fingerprint_of_every_provider(name: str) -> None:
    makes: list[Any] = [network, own, StaticProvider]
    for make in makes:
        assert make(**{name: "x"}).fingerprint == make(**{name: "x"}).fingerprint != make().fingerprint


@pytest.mark.parametrize(("name", "value"), [("revision", 3), ("query_prefix", None), ("query_timeout", 0)])
def test_an_option_of_another_kind_is_refused(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(InvalidInput, match=name):
        network(**options)


def test_a_fingerprint_is_equal_in_every_process(tmp_path: Path) -> None:
    code = (
        "from kameleon.embeddings import *\n"
        "print(CallableProvider(len, dimensions=2, model_name='own', revision='r1').fingerprint,"
        f" StaticProvider({str(small_model(tmp_path))!r}).fingerprint)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].split()[0] == own(revision="r1").fingerprint


def test_a_static_model_is_its_files_wherever_they_are(tmp_path: Path) -> None:
    one, other = small_model(tmp_path), tmp_path / "elsewhere" / "renamed"
    shutil.copytree(one, other)
    assert StaticProvider(one).fingerprint == StaticProvider(other).fingerprint != StaticProvider().fingerprint
    assert StaticProvider(one, max_tokens=64).fingerprint != StaticProvider(one).fingerprint
    with (other / "tokenizer.json").open("a") as file:
        file.write("\n")
    assert StaticProvider(one).fingerprint != StaticProvider(other).fingerprint


POOLINGS = [
    ({}, MEAN),
    ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, CLS),
    ({"pooling_mode_cls_token": False, "pooling_mode_mean_sqrt_len_tokens": True}, MEAN),
    ({"pooling_mode_lasttoken": True, "include_prompt": True}, LAST_TOKEN),
    ({"pooling_mode": "cls"}, CLS),
]


def described(folder: Path, pooling: object, **files: object) -> Path:
    (folder / "1_Pooling").mkdir(parents=True)
    for name, content in {"config": {"hidden_size": 8}, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


@pytest.mark.parametrize(("settings", "pooling"), POOLINGS)
def test_a_folder_names_its_own_pooling(tmp_path: Path, settings: dict[str, Any], pooling: str) -> None:
    assert read_folder(described(tmp_path / "m", settings)).pooling == pooling


REFUSED = [
    ({"pooling_mode_max_tokens": True}, {}, "pooling_mode_max_tokens"),
    ({"pooling_mode_weightedmean_tokens": True}, {}, "pooling_mode_weightedmean_tokens"),
    ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, {}, "cls and mean"),
    ({"pooling_mode": "attention"}, {}, "attention"),
    ([], {}, "list"),
    ({}, {"modules": [{"path": "", "type": "x.Transformer"}, {"path": "2", "type": "x.Dense"}]}, "Dense"),
    ({}, {"modules": [{"path": "", "type": "x.Transformer"}]}, "no module Pooling"),
    ({}, {"config": {}}, "hidden_size"),
    (
        {"pooling_mode_mean_tokens": True, "include_prompt": False},
        {"config_sentence_transformers": {"prompts": {"query": "q: "}}},
        "include_prompt",
    ),
]


@pytest.mark.parametrize(("pooling", "files", "reason"), REFUSED)
def test_a_folder_that_cannot_be_run_as_configured_is_refused_with_the_reason(
    tmp_path: Path, pooling: object, files: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_folder(described(tmp_path / "m", pooling, **files))


def test_a_folder_s_modules_name_its_pooling_file(tmp_path: Path) -> None:
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "2_Pool", "type": "sentence_transformers.models.Pooling"},
        {"path": "3", "type": "sentence_transformers.models.Normalize"},
    ]
    folder = described(tmp_path / "m", {"pooling_mode_mean_tokens": True}, modules=modules)
    (folder / "2_Pool").mkdir()
    settings = {"pooling_mode_cls_token": True, "word_embedding_dimension": 4}
    (folder / "2_Pool" / "config.json").write_text(json.dumps(settings))
    found = read_folder(folder)
    assert (found.pooling, found.dimensions) == (CLS, 4)


def test_a_folder_s_prompts_are_its_prefixes(tmp_path: Path) -> None:
    prompts = {"query": "query: ", "passage": "passage: "}
    folder = described(tmp_path / "m", {}, config_sentence_transformers={"prompts": prompts})
    found = read_folder(folder)
    assert (found.query_prefix, found.passage_prefix) == ("query: ", "passage: ")
    both = {"prompts": {"all": "x: ", "query": "q: "}, "default_prompt_name": "all"}
    found = read_folder(described(tmp_path / "n", {}, config_sentence_transformers=both))
    assert (found.query_prefix, found.passage_prefix) == ("q: ", "x: ")


@pytest.fixture
def copy(minilm: Path, tmp_path: Path) -> Path:
    """The MiniLM folder under a name of its own, its files linked."""
    folder = tmp_path / "copy"
    (folder / "1_Pooling").mkdir(parents=True)
    for name in os.listdir(minilm):
        os.symlink(minilm / name, folder / name)
    return folder


def pooled(folder: Path, settings: dict[str, Any]) -> FastEmbedProvider:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    return FastEmbedProvider(str(folder))


def test_a_folder_is_pooled_as_configured(copy: Path, minilm: Path) -> None:
    text = "wages were not paid in March"
    mean = FastEmbedProvider(str(minilm))
    context = mean._session.model.onnx_embed([text, "a longer text than that, so that the first one is padded"])
    tokens = context.model_output[0][: int(context.attention_mask[0].sum())]
    wanted = {"pooling_mode_cls_token": tokens[0], "pooling_mode_lasttoken": tokens[-1]}
    for setting, row in wanted.items():
        provider = pooled(copy, {setting: True, "pooling_mode_mean_tokens": False})
        found = provider.embed_batch([text, "a longer text than that, so that the first one is padded"])[0]
        assert found == pytest.approx(row / np.linalg.norm(row), abs=1e-4)
        assert provider.fingerprint != mean.fingerprint
    assert np.allclose(pooled(copy, {}).embed(text), mean.embed(text))
    with pytest.raises(InvalidInput, match="pooling_mode_max_tokens"):
        pooled(copy, {"pooling_mode_max_tokens": True})


def test_a_transformer_is_its_files_wherever_they_are(copy: Path, minilm: Path) -> None:
    one, other = FastEmbedProvider(str(minilm)), FastEmbedProvider(str(copy))
    assert (one.model_name, other.model_name) == ("all-MiniLM-L6-v2", "copy")
    assert one.fingerprint == other.fingerprint
    assert one._loaded is other._loaded
    assert FastEmbedProvider(str(copy), revision="r1").fingerprint != one.fingerprint
    assert FastEmbedProvider(str(copy), passage_prefix="p: ").options["passage_prefix"] == "p: "
    (copy / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    short = FastEmbedProvider(str(copy))
    assert short.max_tokens == 16
    assert short.fingerprint != one.fingerprint
