"""Finds the files of folders that have records. Imports `errors`.

What is hidden and symbolic links are left out, and what `exclude` names. Of a folder with documents (Markdown, HTML,
text) these are read, of another its files of records; where there are others, a note counts them.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NoReturn

from ..errors import InvalidInput, seen
from .formats import BY_SUFFIX, FORMATS, format_of
from .items import ReadOptions
from .sources import Source


def with_files_of_folders(given: Iterable[Source], options: ReadOptions) -> Iterator[Source]:
    """The sources, with those of its files for a folder. Raises InvalidInput for a folder without such files, OSError
    for one that cannot be read."""
    for source in given:
        if source.path is not None and source.is_folder:
            yield from files_of(source.path, options)
        else:
            yield source


def files_of(root: Path, options: ReadOptions) -> list[Source]:
    found, links = walk(root, options.exclude)
    sources = [Source(str(path), path=path, root=root) for path in found]
    wanted = wanted_formats(sources, options)
    chosen = [source for source in sources if format_name(source) in wanted]
    left = Counter(source.suffix or "no suffix" for source in sources if format_name(source) not in wanted)
    if not chosen:
        others = f"; it has {described(left)}" if left else ""
        raise InvalidInput(f"{seen(str(root))} has no files of {' or '.join(sorted(wanted))}{others}")
    left.update({"symbolic links": links} if links else {})
    if left:
        options.note(f"{root}: left out {described(left)}")
    return chosen


def described(counts: Counter[str]) -> str:
    """Such as `12 .png, 3 .pdf`."""
    return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(5))


def wanted_formats(sources: Iterable[Source], options: ReadOptions) -> set[str]:
    """The names of the formats that are read of a folder. Raises InvalidInput."""
    if options.format is not None:
        return {format_of(Source("folder"), options).name}
    documents = {name for name, known in FORMATS.items() if known.is_document}
    there = {name for source in sources if (name := format_name(source))}
    return documents if there & documents or not there else there


def format_name(source: Source) -> str:
    known = BY_SUFFIX.get(source.suffix)
    return known.name if known else ""


def walk(root: Path, exclude: Iterable[str] = ()) -> tuple[list[Path], int]:
    """The files of a folder and those below in the order of their paths, and how many symbolic links were left out.
    Raises OSError for a folder that cannot be read, InvalidInput for a pattern that excludes everything."""
    patterns = tuple(pattern.strip("/") for pattern in exclude)
    if "" in patterns:
        raise InvalidInput("a pattern of --exclude is empty: give one such as drafts or '*.tmp'")
    found: list[Path] = []
    links = 0
    for folder, names, files in os.walk(root, onerror=refuse):
        at = Path(folder)
        names[:] = sorted(name for name in names if is_wanted(at / name, root, patterns))
        links += sum((at / name).is_symlink() for name in names)
        for name in sorted(files):
            path = at / name
            if not is_wanted(path, root, patterns):
                continue
            if path.is_symlink():
                links += 1
            elif path.is_file():
                found.append(path)
    return found, links


def is_wanted(path: Path, root: Path, patterns: tuple[str, ...]) -> bool:
    """Whether a file or folder is not hidden and matches no pattern, by its name or by its path below the root."""
    if path.name.startswith("."):
        return False
    below = PurePosixPath(path.relative_to(root)).as_posix()
    return not any(fnmatchcase(path.name, pattern) or fnmatchcase(below, pattern) for pattern in patterns)


def refuse(error: OSError) -> NoReturn:
    raise InvalidInput(f"a folder cannot be read: {error}. --exclude leaves it out") from error
