"""Strips HTML from texts. Imports nothing of kameleon's."""

import re
from collections.abc import Iterable
from html.parser import HTMLParser

COMMENT_END = re.compile(r"--\s*!?>")

HIDDEN = frozenset(("script", "style", "template", "noscript", "svg", "math"))
"""Elements whose contents are no text of the page."""
INLINE = frozenset(
    (
        *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i"),
        *("ins", "kbd", "label", "mark", "nobr", "q", "ruby", "s", "samp", "small", "span", "strike", "strong", "sub"),
        *("sup", "time", "tt", "u", "var", "wbr"),
    )
)
"""Elements that may begin and end inside a word; all others separate words."""


def strip_html(text: str) -> str:
    """Returns the text of HTML: without tags, comments, scripts and styles, with its entities as characters; what a
    block separates is on lines of its own. Any text will do: what is no tag stays."""
    if "<" not in text and "&" not in text:
        return text
    stripper = Stripper()
    stripper.read(text)
    return joined(stripper.found)


def joined(found: Iterable[str]) -> str:
    """Lines of parts of a text, without space at their ends and without empty ones."""
    lines = (" ".join(line.split()) for line in "".join(found).split("\n"))
    return "\n".join(filter(None, lines))


class Stripper(HTMLParser):
    """Collects the text of HTML in `found`, with line breaks for elements that separate words."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.hidden: list[str] = []

    def read(self, text: str) -> None:
        """Collect a whole text. A tag or a comment that nothing closes is text: the parser would look for the end of
        each such beginning in all of what follows."""
        commented = max((found.end() for found in COMMENT_END.finditer(text)), default=0)
        text = text[:commented] + text[commented:].replace("<!--", "&lt;!--")
        closed = text.rfind(">") + 1
        self.feed(text[:closed] + text[closed:].replace("<", "&lt;"))
        self.close()

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """As browsers have it, a comment up to the next `>`; the parser raises AssertionError for some."""
        return self.parse_bogus_comment(i, report)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in HIDDEN:
            self.hide(tag)
        self._separate(tag)

    def hide(self, tag: str) -> None:
        """Leave out what is inside of an element; the end of the outermost of its name ends it."""
        if tag not in self.hidden:
            self.hidden.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self._separate(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.hidden:
            del self.hidden[self.hidden.index(tag) :]
        self._separate(tag)

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.found.append(" ".join(data.split("\n")))

    def _separate(self, tag: str) -> None:
        if tag not in INLINE:
            self.found.append("\n")
