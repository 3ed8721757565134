"""The examples and the extras of the adapters of LlamaIndex and Haystack."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
EXTRAS = {"llamaindex": "llama_index.core", "haystack": "haystack"}
FOUND = {
    "llamaindex": ["pay: The salary", "login: Nobody", "soup: Leek soup", "quantum chromodynamics\n"],
    "haystack": ["both   0", "pay: The salary", "words  0", "login: Nobody"],
}


@pytest.mark.parametrize("name", EXTRAS)
def test_an_example_finds_its_notes(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(EXTRAS[name])
    runpy.run_path(str(EXAMPLES / f"{name}_notes.py"))["main"](f"sqlite:///{tmp_path / 'notes.db'}")
    out = capsys.readouterr().out
    assert [text for text in FOUND[name] if text not in out] == []


@pytest.mark.parametrize("name", EXTRAS)
def test_an_adapter_without_its_framework_names_the_extra(name: str) -> None:
    code = f"import sys; sys.modules[{EXTRAS[name].split('.')[0]!r}] = None; import kameleon.integrations.{name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"pip install 'kameleon[{name}]'" in done.stderr.splitlines()[-1]
