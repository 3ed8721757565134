"""Names of fields as people write them, `product.line`, and the paths that they are. Pure. Imports `errors`.

A dot begins an inner name, and a backslash takes the next character as it is: `a\\.b` is the name "a.b". A name that
begins with a dot is of the record itself, also where names begin in an object of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import InvalidFilter, seen

DATETIME = "datetime"
"""The type of fields whose texts are dates and times."""

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FieldNames:
    """What names may be: `own` are the record's own fields, None for any; `root` is the object that names begin in,
    empty for the record itself, None where the searched entities differ; `moments` are the fields that are declared
    datetime."""

    own: frozenset[str] | None = None
    root: str | None = ""
    moments: frozenset[Path] = frozenset()


ANY = FieldNames()


def path_of(key: str, names: FieldNames = ANY) -> Path:
    """The path of a name, which begins with one of the fields: with the longest that it can, where a field's own name
    has dots. Raises InvalidFilter."""
    is_own, own = key[:1] == ".", names.own
    path = split(key[1:] if is_own else key)
    if names.root is None and not is_own:
        raise InvalidFilter(
            f"{seen(key, 80)} is in another object of each of the searched entities: name the entity to search, or "
            f"begin the name with a dot for the record's own field: .{key:.80}"
        )
    if names.root and not is_own:
        return (names.root, *path)
    if own is None:
        return path
    begins = ((".".join(path[:end]), end) for end in range(len(path), 0, -1))
    name, end = next(((name, end) for name, end in begins if name in own), ("", 0))
    if not name:
        raise InvalidFilter(f"unknown field {path[0]!r:.80}. Known: {', '.join(sorted(own)) or 'none'}")
    return (name, *path[end:])


def split(key: str) -> Path:
    """The names of a path. Raises InvalidFilter."""
    if "\\" not in key:
        path = tuple(key.split("."))
    else:
        path, characters = ("",), iter(key)
        for character in characters:
            if character == ".":
                path += ("",)
            else:
                path = (*path[:-1], path[-1] + (next(characters, "") if character == "\\" else character))
    if not all(path) or not key.isprintable() or (len(key) - len(key.rstrip("\\"))) % 2:
        raise InvalidFilter(
            f"{seen(key, 80)} is no field: a path is printable names joined by single dots; a dot or a backslash in a "
            "name is written with a backslash before it"
        )
    if odd := next((name for name in path if '"' in name and set(".[") & set(name)), None):
        raise InvalidFilter(f"{seen(odd, 80)} is no field of a filter: SQLite reads none with a quote and a dot or a [")
    return path


def field_path(name: str, root: str) -> Path:
    """The path of a declared field: one that is named as in the object that names begin in is there."""
    if not is_nested(name, root):
        return (name,)
    return (root, *split(name.removeprefix(f"{root}.")))


def is_plain(name: str) -> bool:
    """Whether SQL may contain a name as it is."""
    return name.isascii() and name.isidentifier()


def written(name: str, root: str) -> str:
    """A declared field's name as filters have it."""
    if is_nested(name, root):
        return name.removeprefix(f"{root}.")
    escaped = name.replace("\\", "\\\\")
    return f".{escaped}" if root else escaped


def is_nested(name: str, root: str) -> bool:
    return bool(root) and name.startswith(f"{root}.")


def declared_names(types: Mapping[str, str], root: str) -> FieldNames:
    """The names of an entity, by the types of its fields."""
    moments = frozenset(field_path(name, root) for name, type_ in types.items() if type_ == DATETIME)
    return FieldNames(frozenset(name for name in types if not is_nested(name, root)), root, moments)


def together(each: Iterable[FieldNames], others: Iterable[str] = ()) -> FieldNames:
    """The names of several entities, and of `others`. A field is compared as a datetime if all that have it declare it
    so."""
    listed: Sequence[FieldNames] = list(each)
    roots = {names.root for names in listed}
    moments = frozenset(
        path
        for names in listed
        for path in names.moments
        if all(path in other.moments or path[0] not in (other.own or ()) for other in listed)
    )
    own = frozenset(name for names in listed for name in names.own or ())
    return FieldNames(own | frozenset(others), next(iter(roots), "") if len(roots) < 2 else None, moments)
