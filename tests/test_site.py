"""The documentation site: each page is in its navigation, each public name in its reference, and it builds."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import kameleon
import kameleon.embeddings
from tools import build_site

ROOT = Path(__file__).parents[1]


def test_each_page_is_in_the_navigation_once() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "stress" / "README.md"]
    expected = {*(page.relative_to(ROOT).as_posix() for page in pages)} | {
        f"reference/{name}.md" for name in build_site.REFERENCE
    }
    assert sorted(build_site.navigation()) == sorted(expected)


def test_each_public_name_is_in_the_reference_once() -> None:
    documented = [name for _, names in build_site.REFERENCE.values() for name in names]
    assert len(documented) == len(set(documented))
    expected = {f"kameleon.{name}" for name in kameleon.__all__ if name != "KameleonError"}
    expected |= {f"kameleon.embeddings.{name}" for name in kameleon.embeddings.__all__}
    assert sorted(expected - set(documented)) == []


@pytest.mark.parametrize("name", [name for _, names in build_site.REFERENCE.values() for name in names])
def test_what_the_reference_names_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    owner = import_module(module)
    assert hasattr(owner, attribute) or import_module(name)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pages = build_site.build(tmp_path)
    site = tmp_path / "build" / "site"
    links = re.findall(r"^- \[.+\]\((\S+)\)", (site / "llms.txt").read_text("utf-8"), re.MULTILINE)
    assert links == [page.as_posix() for page in pages]
    for link in links:
        assert (site / link).read_text("utf-8") == (ROOT / link).read_text("utf-8")
        assert (site / link.replace("README.md", "").removesuffix(".md") / "index.html").is_file()
    whole = (site / "llms-full.txt").read_text("utf-8")
    assert "# Glossary" in whole
    engine = (site / "reference" / "engine" / "index.html").read_text("utf-8")
    assert all(f'id="kameleon.SearchEngine.{verb}"' in engine for verb in ("search", "asearch", "index_records_batch"))
    errors = (site / "reference" / "errors" / "index.html").read_text("utf-8")
    assert 'id="kameleon.errors.InvalidInput"' in errors
