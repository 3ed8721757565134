"""Objects sent to another process: providers without their keys, errors with all their attributes, no engines."""

import copy
import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from kameleon import SearchEngine, errors
from kameleon.embeddings import FastEmbedProvider, FastEmbedReranker, OpenAIProvider, StaticProvider
from kameleon.embeddings.checking import Unexplained
from kameleon.embeddings.openai import DimensionsRefused
from kameleon.errors import KameleonError, MissingExtra, ProviderRefused
from kameleon.testing import HashProvider

from .loopback import DIMENSIONS, Server, serving
from .test_reranker import cross_encoder  # noqa: F401 - a fixture

KEY = "sk-do-not-print"

ERRORS = [
    *[kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, KameleonError)],
    DimensionsRefused,
    Unexplained,
]
ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "InvalidRecord": (("record 3 is empty",), {"position": 3}),
    "RecordExists": (("id 'a' is taken",), {"position": 7}),
    "TextRefused": (("too long",), {"reason": "too_long"}),
    "ProviderUnavailable": (("busy",), {"retry_after_s": 2.5}),
    "MissingExtra": (("openai", "openai"), {}),
    "NoProvider": ((), {}),
}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def copies(value: Any) -> list[Any]:
    pickled = [pickle.loads(pickle.dumps(value, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]  # noqa: S301
    return [*pickled, copy.copy(value), copy.deepcopy(value)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_errors_are_the_same_in_another_process(kind: type[KameleonError]) -> None:
    given, named = ARGUMENTS.get(kind.__name__, (("what failed: " + "é\x07" * 2000,), {}))
    error = kind(*given, **named)
    error.add_note("a note")
    made = copies(error)
    assert len(made) > 3
    for other in made:
        assert type(other) is kind
        assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))
        assert {name: getattr(other, name) for name in named} == named


def test_an_error_of_the_applications_own_is_too() -> None:
    error = copy.copy(Quota("m", 5))
    assert (str(error), error.left) == ("m has 5 left", 5)


class Quota(ProviderRefused):
    def __init__(self, model: str, left: int) -> None:
        super().__init__(f"{model} has {left} left")
        self.left = left


def test_a_missing_extra_is_an_import_error_still() -> None:
    error = pickle.loads(pickle.dumps(MissingExtra("openai", "openai")))  # noqa: S301
    assert error.msg == str(error) == "openai is not installed. pip install 'kameleon[openai]'"


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("name", ["static", "fastembed", "hash"])
def test_providers_embed_the_same_in_another_process(name: str, used: bool, request: pytest.FixtureRequest) -> None:
    provider: Any = StaticProvider(max_tokens=100) if name == "static" else HashProvider()
    if name == "fastembed":
        provider = FastEmbedProvider(str(request.getfixturevalue("minilm")), threads=1)
    if used:
        provider.embed_batch(["an oak lamp", "a pine table"])
        provider.count_all(["an oak lamp"])
    assert len(pickle.dumps(provider)) < 10_000
    for other in copies(provider):
        assert (other.fingerprint, other.options) == (provider.fingerprint, provider.options)
        assert np.array_equal(np.asarray(other.embed("oak")), np.asarray(provider.embed("oak")))


@pytest.mark.parametrize("used", [False, True])
def test_a_pickled_openai_provider_has_no_key_and_reads_it_where_it_is_loaded(
    used: bool, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = OpenAIProvider("m", dimensions=DIMENSIONS, api_key=KEY, base_url=server.url)
    if used:
        provider.embed("oak")
    pickled = pickle.dumps(provider)
    assert KEY.encode() not in pickled
    assert KEY not in repr(provider)
    other = pickle.loads(pickled)  # noqa: S301
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    other.embed("oak")
    assert server.keys[-1] == ""
    monkeypatch.setenv("OPENAI_API_KEY", "of the other process")
    other = pickle.loads(pickled)  # noqa: S301
    assert len(np.asarray(other.embed("oak"))) == DIMENSIONS
    assert server.keys[-1] == "Bearer of the other process"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_in_the_same_process_keeps_the_key(copied: Any, server: Server) -> None:
    provider = OpenAIProvider("m", dimensions=DIMENSIONS, api_key=KEY, base_url=server.url)
    provider.embed("oak")
    copied(provider).embed("oak")
    assert server.keys == [f"Bearer {KEY}"] * 2


def test_a_password_in_a_base_url_keeps_a_provider_from_being_pickled() -> None:
    provider = OpenAIProvider("m", api_key="k", base_url=f"http://me:{KEY}@127.0.0.1:1/v1")
    with pytest.raises(TypeError, match="make one in each process") as caught:
        pickle.dumps(provider)
    assert KEY not in str(caught.value)
    assert copy.copy(provider).options == provider.options


@pytest.mark.parametrize("used", [False, True])
def test_rerankers_are_pickled(used: bool, cross_encoder: Path) -> None:  # noqa: F811 - the fixture
    reranker = FastEmbedReranker(str(cross_encoder))
    if used:
        reranker("oak", ["lamp"])
    expected = FastEmbedReranker(str(cross_encoder))("oak", ["oak", "lamp"])
    for other in copies(reranker):
        assert other("oak", ["oak", "lamp"]) == expected


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_an_engine_is_refused_with_what_to_do_instead(copied: Any, file_engine: Engine) -> None:
    with pytest.raises(TypeError, match="the database's URL and the provider, and make one there"):
        copied(SearchEngine(file_engine, HashProvider()))


def test_hits_are_pickled(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider())
    search.index_record("Note", 1, "oak")
    found = search.search("oak", explain=True)
    other = pickle.loads(pickle.dumps(found))  # noqa: S301
    assert list(other) == list(found)
    assert other.plan == found.plan
