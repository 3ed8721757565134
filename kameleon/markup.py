"""Strips HTML from texts. Imports nothing of kameleon's."""

from collections.abc import Iterable
from html.parser import HTMLParser

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
    stripper.feed(text)
    stripper.close()
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

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in HIDDEN:
            self.hidden.append(tag)
        self._separate(tag)

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
