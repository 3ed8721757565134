"""Reads Markdown, text and HTML files: a record a file, or one a section. Imports `errors` and `markup`.

A record has `title`, `text` and what its front matter has; its id is the path of the file below the folder that was
read, with `#` and the heading's name for a section. `_file` has where it was read from, and the hash by which a file
that has not changed is known.
"""

import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, NamedTuple

from .decoding import decoded
from .formats import format_of
from .front_matter import BadFrontMatter, split
from .html_pages import named_encoding, read_page
from .items import Item, ReadOptions, too_long
from .loaded import FILE_FIELD
from .outlines import Anchors, Section, sections, with_parents
from .sources import Source

RESERVED = frozenset(("id", "text", "headings", FILE_FIELD))
"""Names that a record has itself: fields of these names in front matter get an underscore at the end."""
MARKDOWN, HTML = "markdown", "html"


class Document(NamedTuple):
    title: str
    fields: dict[str, Any]
    sections: list[Section]
    text: str


def read(source: Source, options: ReadOptions) -> Iterator[Item]:
    """The record of a file or those of its sections; none of one that `options.loaded` knows as it is. What is wrong
    with a file is an item with an error: the next can be read. The bytes of an item are the file's name."""
    try:
        with source.open() as stream:
            raw = stream.read(options.max_bytes + 1)
        if len(raw) > options.max_bytes:
            found = [failed(source, too_long(options.max_bytes))]
        else:
            found = items_of(source, raw, options)
    except BadFrontMatter as error:
        found = [failed(source, str(error), error.line)]
    except (OSError, EOFError, zlib.error, ValueError) as error:
        found = [failed(source, f"cannot be read: {error}")]
    if options.loaded is not None and any(item.error is not None for item in found):
        options.loaded.keep_all(source.folder, source.relative)
    yield from found


def failed(source: Source, error: str, line: int = 1) -> Item:
    return Item(line, os.fsencode(source.name), error=error)


def items_of(source: Source, raw: bytes, options: ReadOptions) -> list[Item]:
    """Raises BadFrontMatter, and ValueError for a text that cannot be decoded."""
    folder, path, loaded = source.folder, source.relative, options.loaded
    digest = hash_of(raw, options)
    if not path.isascii() and path != path.encode("utf-8", "replace").decode():
        return [failed(source, "its name is not UTF-8. Rename it, or leave it out with --exclude")]
    if loaded is not None and path:
        if other := loaded.claim(folder, path):
            advice = "Read them into two entities, or the folder that both are in"
            return [failed(source, f"the folder {other!r:.80} has a file {path!r:.80}, too. {advice}")]
        if loaded.is_current(folder, path, digest):
            return []
    kind = format_of(source, options).name
    encoding = options.encoding or (named_encoding(raw) if kind == HTML else None)
    document = parsed(decoded(raw, encoding, options.note), kind)
    made = list(documents_of(document, path, by_section=options.by_section))
    origin = {"folder": folder, "path": path, "hash": digest, "records": len(made)}
    if loaded is not None and path:
        loaded.keep(data for _, data in made)
    return [Item(place, os.fsencode(source.name), {**data, FILE_FIELD: origin}) for place, data in made]


def hash_of(raw: bytes, options: ReadOptions) -> str:
    """Identifies the bytes of a file and how they are read."""
    form = f"{options.by_section} {options.encoding or ''}\n".encode()
    return hashlib.blake2b(form + raw, digest_size=16).hexdigest()


def parsed(text: str, kind: str) -> Document:
    """Raises BadFrontMatter."""
    fields, body, line = split(text)
    if kind == HTML:
        page = read_page(body)
        found, title = page.sections, page.title
        fields = {**page.fields, **fields}
        body = "\n".join(part for each in found for part in (each.heading, each.text) if part)
    else:
        found = sections(body, line) if kind == MARKDOWN else [Section(line=line, lines=[body])]
        title = ""
    named = {f"{name}_" if name in RESERVED else name: value for name, value in fields.items() if name}
    own = named.pop("title", None)
    title = own if isinstance(own, str) and own.strip() else title or first_heading(found)
    return Document(title, named, found, body.strip())


def first_heading(found: list[Section]) -> str:
    return next((each.heading for each in found if each.heading), "")


def documents_of(document: Document, path: str, *, by_section: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of a file, each with its line; one without text of a file that has none."""
    title = document.title or PurePath(path).stem
    parts = [pair for pair in with_parents(document.sections) if pair[0].text] if by_section else []
    key = {"id": path} if path else {}
    if not parts:
        yield 1, {**key, "title": title, **document.fields, "text": document.text}
        return
    anchors = Anchors()
    for section, above in parts:
        own: dict[str, Any] = {"title": section.heading or title}
        if section.level:
            name = anchors.name(section)
            key = {"id": f"{path}#{name}"} if path else {}
            headings = [one for one in (title, *above) if one != section.heading]
            own |= {"headings": list(dict.fromkeys(headings))}
        yield section.line, {**key, **own, **document.fields, "text": section.text}
