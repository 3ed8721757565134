"""Title, description and sections of an HTML page. Imports `markup`."""

import codecs
import re
from dataclasses import dataclass, field
from typing import Any

from ..markup import HIDDEN, Stripper, joined
from .outlines import MAX_HEADING, Section

HEADING = re.compile(r"h([1-6])")
META = ("author", "description", "keywords")
"""The names of `<meta>` that become fields."""
LEFT_OUT = HIDDEN | {"nav"}
"""Elements whose contents are no text of a page: what all pages of a site have is not what a page is about."""
CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
NOT_OF_PAGES = ("idna", "mbcs", "oem", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")
"""Codecs of Python's that are no encodings of pages."""
LATIN = {"ascii": "cp1252", "iso8859-1": "cp1252"}
"""What browsers take for these, as pages mean it."""
CHARSET_WITHIN = 4096
"""Bounds the bytes in which a page names its encoding; HTML has 1,024, and generators write more before it."""


@dataclass(slots=True)
class Page:
    title: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)


def read_page(text: str) -> Page:
    """The page, of one with a `<main>` that has text only what is inside."""
    page = _parsed(text, main_alone=True)
    return page if any(section.text for section in page.sections) else _parsed(text, main_alone=False)


def _parsed(text: str, *, main_alone: bool) -> Page:
    reader = _PageReader(main_alone)
    reader.read(text)
    reader.finish()
    return reader.page


def named_encoding(raw: bytes) -> str | None:
    """The encoding that a page names, if it can be one: what names UTF-16 in ASCII is taken for UTF-8, as by
    browsers."""
    found = CHARSET.search(raw[:CHARSET_WITHIN])
    try:
        codec = codecs.lookup(found[1].decode("ascii")) if found else None
    except LookupError:
        codec = None
    if codec is None or not codec._is_text_encoding or codec.name in NOT_OF_PAGES:
        return None
    return "utf-8" if codec.name.startswith("utf") else LATIN.get(codec.name, codec.name)


class _PageReader(Stripper):
    def __init__(self, main_alone: bool) -> None:
        super().__init__()
        self.page = Page(sections=[Section()])
        self._main_alone = main_alone
        self._is_over = False
        self._kept: list[str] = []

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        if tag == "meta":
            self._take_meta({name: value or "" for name, value in attrs})
        super().handle_startendtag(tag, attrs)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if self._is_over:
            return
        if tag in LEFT_OUT and tag not in HIDDEN:
            self.hide(tag)
        if self.hidden:
            super().handle_starttag(tag, attrs)
        elif tag == "meta":
            self._take_meta({name: value or "" for name, value in attrs})
        elif tag == "title" and not self.page.title:
            self._kept, self.found = self.found, []
        elif tag == "main" and self._main_alone:
            self.found, self.page.sections = [], [Section(line=self.getpos()[0])]
        elif level := HEADING.fullmatch(tag):
            self._end_section()
            anchor = dict(attrs).get("id") or ""
            self.page.sections.append(Section(int(level[1]), line=self.getpos()[0], anchor=anchor))
        else:
            super().handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._is_over:
            return
        if not self.hidden and tag == "title" and not self.page.title:
            self.page.title = " ".join("".join(self.found).split())[:MAX_HEADING]
            self.found, self._kept = self._kept, []
        elif not self.hidden and HEADING.fullmatch(tag) and self.page.sections[-1].level:
            self._end_heading()
        elif not self.hidden and tag == "main" and self._main_alone:
            self._end_section()
            self._is_over = True
        else:
            super().handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        if not self._is_over:
            super().handle_data(data)

    def finish(self) -> None:
        if not self._is_over:
            self.found = self._kept + self.found  # of a title that is not closed
            self._end_section()

    def _end_heading(self) -> None:
        section = self.page.sections[-1]
        if not section.heading:
            section.heading = " ".join("".join(self.found).split())[:MAX_HEADING]
            self.found = []

    def _end_section(self) -> None:
        self.page.sections[-1].lines.append(joined(self.found))
        self.found = []

    def _take_meta(self, attrs: dict[str, str]) -> None:
        name, content = attrs.get("name", "").lower(), " ".join(attrs.get("content", "").split())
        if name in META and content:
            words = [word.strip() for word in content.split(",") if word.strip()]
            self.page.fields.setdefault(name, words if name == "keywords" else content)
