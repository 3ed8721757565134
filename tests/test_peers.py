"""The run that compares other systems with kameleon: how it judges answers, and that ours and SQL by hand work."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stress import peers
from stress.peers import judging, showing
from stress.peers.environments import REQUIREMENTS
from stress.peers.scripts.by_hand_peer import OnSQLite
from stress.peers.scripts.given import WARM, Peer, measure, read
from stress.peers.scripts.ours_peer import Ours

FIGURES = {
    "version": "1.0",
    "mode": "hybrid",
    "vector_index": "exact",
    "ingest_seconds": 2.0,
    "hybrid_p50_ms": 3.0,
    "hybrid_p95_ms": 4.0,
    "disk_mb": 5,
    "peak_mb": 6,
}


def test_recall_is_the_share_of_the_ten_nearest_and_a_tie_counts_as_either() -> None:
    scores = np.array([1.0] * 9 + [0.5, 0.5] + [0.1] * 5)
    assert judging.recall(scores, [str(n) for n in range(10)]) == 1.0
    assert judging.recall(scores, [*map(str, range(9)), "10"]) == 1.0
    assert judging.recall(scores, [*map(str, range(8)), "15", "15"]) == 0.8
    assert judging.recall(scores, ["0"] * 10) == 0.1


def test_a_source_is_found_by_its_words_among_the_first_ten() -> None:
    texts = ["a", "b", "a", *map(str, range(10))]
    assert judging.is_found(texts, 0, ["1", "2"])
    assert not judging.is_found(texts, 0, ["1"])
    assert not judging.is_found(texts, 0, [*map(str, range(3, 13)), "0"])


def test_a_table_sets_each_peer_beside_ours_and_names_failures() -> None:
    judged = {**FIGURES, "recall_at_10": 1.0, "found_at_10": 0.5}
    slow = {**judged, "mode": "vector", "why": "no words", "ingest_seconds": 5.0, "hybrid_p95_ms": 6.0}
    figures = judging.compared({"ours": judged, "chroma": slow, "lance": {"failed": "no such wheel"}})
    result = {"backend": "sqlite", "rows": 30_000, "queries": 200, "peers": figures}
    assert showing.table(result).splitlines()[4:] == [
        "| kameleon | 1.0 | exact | 2 (1) | 3 | 4 (1) | 1.000 | 0.500 | 5 | 6 |",
        "| Chroma | 1.0 | exact | 5 (2.5) | 3 (vector only) | 6 (1.5) (vector only) | 1.000 | 0.500 | 5 | 6 |",
        "| LanceDB | failed: no such wheel |  |  |  |  |  |  |  |  |",
        "",
        "Chroma: no words.",
    ]
    drawn = showing.chart(result)
    assert 'width="176.0"' in drawn
    assert 'width="440.0"' in drawn
    assert ">Chroma (vector)<" in drawn
    assert "LanceDB" not in drawn


def test_a_peer_that_fails_is_reported_with_its_reason(tmp_path: Path) -> None:
    assert peers.answers("nobody", "sqlite", tmp_path)["failed"].endswith("No module named scripts.nobody_peer")


@pytest.mark.parametrize("peer", sorted({*peers.PEERS["sqlite"], *peers.PEERS["postgresql"]} - {"ours", "by_hand"}))
def test_a_peer_has_a_script_requirements_and_a_name(peer: str) -> None:
    assert (Path(peers.__file__).parent / "scripts" / f"{peer}_peer.py").is_file()
    assert peer in REQUIREMENTS
    assert peer in showing.NAMES


@pytest.mark.parametrize(("name", "peer"), [("zvec", "Zvec"), ("qdrant_edge", "QdrantEdge"), ("bm25s", "Bm25s")])
def test_a_peer_that_is_installed_finds_what_it_was_given(name: str, peer: str, tmp_path: Path) -> None:
    pytest.importorskip(name, exc_type=ImportError)
    judged = run_of(getattr(import_module(f"stress.peers.scripts.{name}_peer"), peer), tmp_path)
    assert (judged["recall_at_10"], judged["found_at_10"]) == (1.0, 1.0)


@pytest.mark.parametrize("peer", [Ours, OnSQLite])
def test_what_runs_in_this_environment_finds_what_it_was_given(peer: type[Peer], tmp_path: Path) -> None:
    if peer is OnSQLite:
        pytest.importorskip("pysqlite3")
    judged = run_of(peer, tmp_path)
    assert (judged["recall_at_10"], judged["found_at_10"]) == (1.0, 1.0)


def run_of(peer: type[Peer], tmp_path: Path) -> Any:
    texts = [f"passage {n} of {'ab'[n % 2]} about matter{n}" for n in range(50)]
    questions = [f"matter{n}" for n in range(WARM + 10)]
    vectors, query_vectors = peers.give(tmp_path, texts, questions)
    store = tmp_path / "store"
    store.mkdir()
    result: Any = measure(peer(), read(tmp_path, store, ""))
    assert peers.size(store) > 0
    return judging.judged(result, texts, vectors, query_vectors[WARM:], range(WARM, WARM + 10))
