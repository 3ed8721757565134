"""The examples of LlamaIndex and Haystack run, offline."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
BEST = {
    "llamaindex_notes": ["pay: The salary", "login: Nobody", "soup: Leek soup"],
    "haystack_notes": ["both   0", "pay: The salary", "words  0", "login: Nobody"],
}


@pytest.mark.parametrize("name", BEST)
def test_an_example_finds_its_notes(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("llama_index.core" if name.startswith("llama") else "haystack")
    runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](f"sqlite:///{tmp_path / 'notes.db'}")
    out = capsys.readouterr().out
    assert [text for text in BEST[name] if text not in out] == []
