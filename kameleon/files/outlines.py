"""The sections of a Markdown text by its headings. Imports nothing of kameleon's."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

MAX_HEADING = 500
"""Bounds the characters of a heading. Chosen, not measured."""
ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")
NO_PARAGRAPH = re.compile(r" {4}|\t| {0,3}(?:[-*+>|]|\d+[.)])(?:\s|$)")
"""Lines that begin a list, a quotation, a table or code: a line of dashes below them makes no heading."""
LINK = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])")
MARKS = re.compile(r"[`*]|(?<!\w)_+|_+(?!\w)|<[^>]*>")
ANCHOR = re.compile(r"\{#([^}\s]+)[^}]*\}$")
"""`## Heading {#anchor}`, as several generators of sites have it."""


@dataclass(slots=True)
class Section:
    """What is below a heading, up to the next; `level` is 0 before the first. `line` is that of the heading."""

    level: int = 0
    heading: str = ""
    line: int = 1
    anchor: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines).strip()


def sections(text: str, line: int = 1) -> list[Section]:
    """The sections of a text that begins on `line`."""
    found = [Section(line=line)]
    fence = ""
    for number, each in enumerate(text.split("\n"), line):
        each = each.rstrip("\r")
        if fence or ((opened := FENCE.match(each)) and "`" not in opened[2]):
            fence = next_fence(fence, each)
            found[-1].lines.append(each)
        elif heading := ATX.match(each):
            found.append(section_of(len(heading[1]), unclosed(each[heading.end() :]), number))
        elif (rule := SETEXT.match(each)) and is_paragraph(found[-1].lines):
            found.append(section_of(1 if rule[1][0] == "=" else 2, found[-1].lines.pop().strip(), number - 1))
        else:
            found[-1].lines.append(each)
    return found


def next_fence(fence: str, line: str) -> str:
    """The fence of the code that a line is in, "" at its end."""
    found = FENCE.match(line)
    if not fence:
        return found[1] if found else ""
    closes = found and found[1][0] == fence[0] and len(found[1]) >= len(fence) and not found[2].strip()
    return "" if closes else fence


def is_paragraph(lines: list[str]) -> bool:
    """Whether the last line is a paragraph of one line, which a line of dashes below makes a heading."""
    if not lines or not lines[-1].strip() or NO_PARAGRAPH.match(lines[-1]):
        return False
    return len(lines) < 2 or not lines[-2].strip() or bool(FENCE.match(lines[-2]))


def unclosed(heading: str) -> str:
    """A heading without the hashes that close it."""
    heading = heading.strip()
    opened = heading.rstrip("#")
    return opened.rstrip() if not opened or opened[-1] in " \t" else heading


def section_of(level: int, heading: str, line: int) -> Section:
    heading = heading[:MAX_HEADING]
    anchor = ANCHOR.search(heading)
    return Section(level, plain(heading[: anchor.start()] if anchor else heading), line, anchor[1] if anchor else "")


def plain(heading: str) -> str:
    """A heading without the marks of Markdown."""
    return " ".join(MARKS.sub("", LINK.sub(r"\1", heading)).split())


def with_parents(found: Iterable[Section]) -> Iterator[tuple[Section, list[str]]]:
    """Each section with the headings that it is below."""
    above: list[Section] = []
    for each in found:
        above = [one for one in above if one.level < each.level]
        yield each, [one.heading for one in above if one.heading]
        if each.level:
            above.append(each)


class Anchors:
    """Names the sections of a file as GitHub does: in lower case, with hyphens, numbered where two are the same."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def name(self, section: Section) -> str:
        wanted = section.anchor or slug(section.heading) or "section"
        name, number = wanted, self._taken.get(wanted, 0)
        while name in self._taken:
            number += 1
            name = f"{wanted}-{number}"
        self._taken[wanted] = number
        self._taken.setdefault(name, 0)
        return name


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
