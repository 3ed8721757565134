"""Build a wheel of this checkout, install it into an empty environment, and run what it installs there.

An editable install finds files that a wheel lacks: a package missing from `packages`, a model missing from
`package-data`. So the wheel runs in a temporary folder, where nothing of the checkout can be imported. The server's
page is compared file by file: its packages are not installed there.

With --lowest its direct dependencies are those of the lowest versions that `pyproject.toml` allows, else the newest.

With --types it installs the extras and pyright, too, and verifies that the public names are typed completely. That is
no part of `make check`: pyright needs Node.js, and downloads one where there is none.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]
LEFT_OUT = (".*", "build", "dist", "stress", "tests", "__pycache__", "*.egg-info", "*.db*")
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
SEARCH = """
from importlib.metadata import version
from pathlib import Path
import kameleon

search = kameleon.SearchEngine(kameleon.create_engine("sqlite:///smoke.db"), "static")
search.index_record("Note", "1", "Wages were not paid in March")
assert [hit.id for hit in search.search("wages", mode="keyword")] == ["1"]
assert [hit.id for hit in search.search("salary overdue")] == ["1"]
Path("pages.csv").write_text("id,title\\n7,A lighthouse\\n")
kameleon.RecordStore(search).load_files("Page", "pages.csv")
assert [hit.id for hit in search.search("lighthouse", entity="Page", mode="keyword")] == ["7"]
assert search.tables.list() == []
print("kameleon", version("kameleon"), "from", kameleon.__file__)
"""


def main() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(folder)
        verify_page(wheel)
        venv.create(folder / "venv", with_pip=True)
        scripts = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
        chosen = ("--constraint", lowest(folder)) if "--lowest" in sys.argv else ()
        run(folder, scripts / "python", *PIP, "install", *chosen, f"{wheel}[all]" if "--types" in sys.argv else wheel)
        run(folder, scripts / "python", "-I", "-c", SEARCH)
        run(folder, scripts / "kameleon", "--version")
        run(folder, scripts / "kameleon", "--help", is_quiet=True)
        run(folder, scripts / "kameleon", "-d", "sqlite:///smoke.db", "search", "wages", "--mode", "keyword")
        if "--types" in sys.argv:
            verify_types(folder, scripts)


def verify_page(wheel: Path) -> None:
    """Every file of the page is in the wheel."""
    server = Path("kameleon") / "server"
    paths = [path for part in ("static", "templates") for path in (ROOT / server / part).rglob("*") if path.is_file()]
    with ZipFile(wheel) as packed:
        absent = {path.relative_to(ROOT).as_posix() for path in paths} - set(packed.namelist())
    if absent or not paths:
        raise SystemExit(f"the wheel lacks {sorted(absent) or server}: see package-data in pyproject.toml")


def verify_types(folder: Path, scripts: Path) -> None:
    run(folder, scripts / "python", *PIP, "install", "pyright")
    os.environ["PATH"] = os.pathsep.join([str(scripts), os.environ["PATH"]])
    run(folder, scripts / "pyright", "--verifytypes", "kameleon", "--ignoreexternal")


def lowest(folder: Path) -> Path:
    """A file of constraints: each dependency at its lower bound."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    bounds = [re.match(r"([\w-]+)>=([\d.]+)", need) for need in needed]
    if not all(bounds):
        raise SystemExit(f"a dependency in pyproject.toml has no lower bound: {', '.join(needed)}")
    constraints = folder / "lowest.txt"
    constraints.write_text("".join(f"{bound[1]}=={bound[2]}\n" for bound in bounds if bound), "utf-8")
    return constraints


def build(folder: Path) -> Path:
    """The wheel, built from a copy: setuptools would take modules of an earlier build from the checkout's build/."""
    copy = shutil.copytree(ROOT, folder / "copy", ignore=shutil.ignore_patterns(*LEFT_OUT))
    run(folder, sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", folder, copy)
    (wheel,) = folder.glob("*.whl")
    return wheel


def run(folder: Path, *command: str | Path, is_quiet: bool = False) -> None:
    stdout = subprocess.DEVNULL if is_quiet else None
    subprocess.run(list(map(str, command)), check=True, cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout)


if __name__ == "__main__":
    main()
