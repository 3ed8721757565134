"""Hostile strings, values and lines, each with what is hostile about it."""

import random
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any

KEY = "sk-live-0123456789abcdefghij"
CANARY = "the canary sings"
SHORT = 20_000

STRINGS: dict[str, tuple[str, str]] = {
    "nul": ("a\0b", "PostgreSQL has no NUL, SQLite's C functions stop at it"),
    "high surrogate": ("a\ud800", "no UTF-8 is made of it"),
    "surrogate pair": ("\ud83d\ude00", "a character in two halves, each no character"),
    "noncharacters": ("\uffff\ufdd0\U0010ffff", "code points that never are characters"),
    "unassigned": ("\u0378\ue000", "no category that a tokenizer knows"),
    "bidi": ("\u202egpj.exe\u2066", "turns the text about in which it is quoted"),
    "combining storm": ("e" + "\u0301" * 500, "one letter of a thousand bytes"),
    "zwj": ("👩\u200d👩\u200d👧\u200d👦" * 20, "one sign of many characters"),
    "dotless": ("İıſẞßﬀ", "changes its length with its case"),
    "white": ("\t\x0b\x0c\x1c\x85\u2028\u3000", "what Python calls white space and others do not"),
    "empty": ("", "has no text"),
    "blank": (" ", "has no text and is not empty"),
    "bom": ("\ufefffox", "a mark that editors hide"),
    "lines": ("a\r\nb\rc", "one line in a log is three"),
    "escape": ("\x1b[31mred\x1b[0m\x1b]0;title\x07", "commands a terminal"),
    "c1": ("\x9b2J\x7f", "commands one in a single character"),
    "quotes": ("'\"`''\"\"", "ends a literal or a name"),
    "drop": ("'; DROP TABLE kdb_search; --", "SQL after a literal"),
    "drop name": ('"; DROP TABLE kdb_records; --', "SQL after a name"),
    "dollar": ("$kdb$; CREATE TABLE hacked (x int); --", "SQL after a dollar quote"),
    "comment": ("a /* b */ -- c", "SQL that is left out"),
    "binds": ("%s %(x)s :name ? $1 {0} {x} %", "the places of values in five drivers"),
    "backslash": ("\\' \\x00 \\", "an escape, if strings are read so"),
    "like": ("%_\\%", "matches everything"),
    "glob": ("*?[a-z", "matches everything, and is incomplete"),
    "regex": ("(a+)+$|[", "matches for ever, and is incomplete"),
    "fts5": ('NEAR(a b, 2) AND "c* NOT {x y}: ^e - f', "FTS5's own operators, incomplete"),
    "tsquery": ("a & !b | (c <-> d):*A \\", "PostgreSQL's own operators, incomplete"),
    "jsonpath": ('$."a" ? (@ > 1)', "a path in a path"),
    "dots": ("a..b.", "a path without names"),
    "prototype": ("__proto__", "every object has it somewhere"),
    "constructor": ("__class__", "every object has it here"),
    "formula": ("=cmd|' /C calc'!A0", "a spreadsheet runs it"),
    "traversal": ("../../../../etc/passwd", "leaves the folder"),
    "file": ("file:///etc/passwd?mode=rwc", "a URL where a name was meant"),
    "rowid": ("rowid", "a column that no one made"),
    "json": ('{"a": [NaN, 1e400]}', "JSON in JSON"),
    "number": ("1e400", "a number as text"),
    "cjk": ("全文検索の例", "no spaces between words"),
    "arabic": ("شَدَّة ١٢٣", "from right to left, digits of its own"),
    "secret": (f"api_key={KEY}", "nobody wants it in a log"),
    "long word": ("x" * SHORT, "one word over every limit of a word"),
    "long blank": (" " * SHORT, "white space alone"),
    "long name": ("é" * 300, "over 255 bytes and not over 255 characters"),
    "many words": (" ".join(f"w{n}" for n in range(2_000)), "more terms than a query has"),
    "many marks": ("-a" * 2_000, "an operator after another"),
    "many quotes": ('"' * 501, "an odd number of them"),
    "many dots": ("a." * 500, "a deep path"),
}
GIANTS: dict[str, tuple[str, str]] = {
    "10 MB word": ("x" * 10_000_000, "one word of 10 MB"),
    "10 MB blank": (" " * 10_000_000, "white space of 10 MB"),
    "10 MB of lines": ("fox\n" * 2_500_000, "a word 2.5 million times"),
    "a million words": (" ".join(f"w{n}" for n in range(1_000_000)), "as many different ones"),
    "10 MB of marks": ("e" + "\u0301" * 5_000_000, "one letter of 10 MB"),
}


def nested(levels: int) -> Any:
    made: Any = "fox"
    for _ in range(levels):
        made = [made]
    return made


VALUES: dict[str, tuple[Any, str]] = {
    "none": (None, "is nothing"),
    "true": (True, "is 1 in Python"),
    "one": (1, "is not '1'"),
    "one and a bit": (1.5, "is no whole number"),
    "negative zero": (-0.0, "JSONB has none"),
    "nan": (float("nan"), "is not itself, and no JSON"),
    "infinity": (float("inf"), "no JSON"),
    "64 bits": (2**63, "one too many for an integer column"),
    "400 digits": (10**400, "no float"),
    "5,000 digits": (10**5_000, "Python does not show it"),
    "tiny": (5e-324, "the smallest float"),
    "great": (1.7976931348623157e308, "the greatest float"),
    "bytes": (b"\xff", "no text"),
    "list": ([], "has no hash"),
    "list of lists": ([["x"]], "has no hash inside"),
    "object": ({"a": {"b": 1}}, "an object"),
    "operator": ({"$gt": None}, "an operator without a value"),
    "odd key": ({1: 2, None: 3}, "names that are no texts"),
    "set": ({1}, "no JSON"),
    "thing": (object(), "no JSON"),
    "70 deep": (nested(70), "over the depth of a record"),
    "500 deep": (nested(500), "over the depth of a parser"),
    "100,000 deep": (nested(100_000), "over every stack"),
}
LINES: dict[str, tuple[bytes, str]] = {
    "nan": (b'{"id": "1", "a": NaN}', "no JSON"),
    "infinity": (b'{"id": "1", "a": 1e400}', "no float"),
    "digits": (b'{"id": "1", "a": ' + b"9" * 5_000 + b"}", "over Python's limit"),
    "surrogate": (b'{"id": "1", "a": "\\ud800"}', "half a character"),
    "nul": (b'{"id": "1", "a": "x\\u0000y"}', "NUL in disguise"),
    "raw nul": (b'{"id": "1", "a": "\0"}', "NUL"),
    "not utf-8": (b'{"id": "1", "a": "\xff\xfe"}', "no UTF-8"),
    "utf-16": ('{"id": "1"}'.encode("utf-16"), "another encoding"),
    "trailing": (b'{"id": "1", "a": 1} x', "something after the record"),
    "deep": (b'{"id": "1", "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "over every stack"),
    "cut": (b'{"id": "1", "a": "b', "ends in the middle"),
    "control": (b'{"id": "1", "\x1b[31m": 1}', "commands a terminal"),
    "control name": (b'{"id": "1", "a": 1, "\\u001b[31m\\u0000": 1}', "commands one from a name"),
    "key in it": (b'{"id": ["' + KEY.encode() + b'"]}', "an id that is none"),
}


@cache
def categories() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for code in range(0x110000):
        found.setdefault(unicodedata.category(chr(code)), []).append(chr(code))
    return found


def random_strings(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Texts of all of Unicode's categories alike."""
    chance = random.Random(seed)
    by_category = categories()
    for number in range(count):
        drawn = (chance.choice(by_category[chance.choice(list(by_category))]) for _ in range(chance.randint(1, 40)))
        yield f"random {number}", "".join(drawn)
