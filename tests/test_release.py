"""Releases: one version, and a changelog that names it."""

from importlib.metadata import version

import pytest

import kameleon
from tools.release_check import declared_version, faults

RELEASED = """# Changelog

## Unreleased

## 0.2.0 (2026-12-01)

- Added search by a vector
"""


def test_the_version_is_declared_once() -> None:
    assert kameleon.__version__ == declared_version() == version("kameleon")


def test_a_version_with_its_section_can_be_released() -> None:
    assert faults("0.2.0", "0.2.0", RELEASED) == []


@pytest.mark.parametrize(
    ("version", "declared", "changelog", "message"),
    [
        ("next", "next", RELEASED, "'next' is no version"),
        ("0.2.0", "0.1.0", RELEASED, "__version__ is 0.1.0, not 0.2.0"),
        ("0.2.0", "0.2.0", RELEASED.replace("Unreleased\n", "Unreleased\n\n- Fixed it\n"), "entries under"),
        ("0.2.0", "0.2.0", RELEASED.replace("## Unreleased\n\n", ""), "no such section"),
        ("0.2.0", "0.2.0", RELEASED.replace(" (2026-12-01)", ""), "the newest release in CHANGELOG.md is 0.2.0:"),
        ("0.2.0", "0.2.0", RELEASED.replace("- Added", "Added"), "names no change of 0.2.0"),
        ("0.2.0", "0.2.0", "# Changelog\n", "the newest release in CHANGELOG.md is none"),
    ],
)
def test_what_keeps_a_version_from_being_released(version: str, declared: str, changelog: str, message: str) -> None:
    assert any(message in fault for fault in faults(version, declared, changelog))
