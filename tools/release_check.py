"""Verify that this checkout can be released: `python tools/release_check.py VERSION`.

The version is that of `kameleon.__version__` and of the newest section of CHANGELOG.md, which has entries and a date,
below an empty "Unreleased". Then a source archive and the wheel made of it are built into `dist`, and the wheel is
installed and run with the newest and the lowest versions of its dependencies.
"""

import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
ENTRY = re.compile(r"^- (?:Added|Changed|Fixed|Removed|Deprecated) ", re.MULTILINE)


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("name the version: python tools/release_check.py 0.2.0")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    if wrong := faults(sys.argv[1], declared_version(), changelog):
        raise SystemExit("\n".join(wrong))
    build()
    for option in ((), ("--lowest",)):
        subprocess.run([sys.executable, ROOT / "tools" / "smoke_wheel.py", *option], check=True)
    print(f"{sys.argv[1]} can be released: {', '.join(sorted(path.name for path in DIST.iterdir()))}")


def declared_version() -> str:
    source = (ROOT / "kameleon" / "__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    if found is None:
        raise SystemExit("kameleon/__init__.py has no __version__")
    return found[1]


def faults(version: str, declared: str, changelog: str) -> list[str]:
    """What keeps this version from being released, each with the next step."""
    wrong = []
    if not re.fullmatch(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?", version):
        wrong.append(f"{version!r:.80} is no version such as 0.2.0 or 0.2.0rc1")
    if declared != version:
        wrong.append(f"kameleon.__version__ is {declared}, not {version}: set it in kameleon/__init__.py")
    titles, bodies = SECTION.findall(changelog), SECTION.split(changelog)[2::2]
    if titles[:1] != ["Unreleased"] or ENTRY.search(bodies[0]):
        wrong.append(f'CHANGELOG.md has entries under "Unreleased", or no such section: move them to "## {version}"')
    newest = titles[1] if len(titles) > 1 else "none"
    if not re.fullmatch(rf"{re.escape(version)} \(\d{{4}}-\d\d-\d\d\)", newest):
        wrong.append(f'the newest release in CHANGELOG.md is {newest}: "## {version} (YYYY-MM-DD)" is expected')
    elif not ENTRY.search(bodies[1]):
        wrong.append(f"CHANGELOG.md names no change of {version}")
    return wrong


def build() -> None:
    """A source archive, and the wheel that is made of it."""
    shutil.rmtree(DIST, ignore_errors=True)
    with TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "build"], check=True)
        subprocess.run([python, "-m", "build", "--outdir", DIST, ROOT], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
