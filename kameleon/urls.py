"""Parses URLs of databases, and shows them without their secrets. Imports `errors`."""

import os
import re
from collections.abc import Iterator

import sqlalchemy.exc
from sqlalchemy import URL, make_url

from .errors import InvalidInput, is_secret_name, seen


def parse_url(url: str | URL) -> URL:
    """Raises InvalidInput, without the URL and what SQLAlchemy quotes of it."""
    if not isinstance(url, str | URL) or not str(url).isprintable():
        given = shown(url) if isinstance(url, str | URL) else seen(url, 20)
        raise InvalidInput(f"a database is a printable URL such as sqlite:///kameleon.db, not {given}")
    reason = "its port is not a number, or a character of its password is not percent-encoded"
    try:
        parsed = make_url(url)
        if "@" not in (parsed.host or ""):
            return parsed
    except sqlalchemy.exc.ArgumentError:
        reason = "it is no URL"
    except ValueError:
        pass
    text = str(url)
    file = text if "://" not in text and os.path.isfile(text) else "kameleon.db"
    raise InvalidInput(f"no database can be opened as {shown(url)}: {reason}. Try sqlite:///{file}")


def shown(url: str | URL) -> str:
    """The URL for a message: no user, password or query, and nothing that could be part of one."""
    text = url if isinstance(url, str) else url.render_as_string()
    scheme, separator, rest = text.partition("://") if "://" in text else ("", "", text)
    before, at, place = rest.rpartition("@")
    if "?" in before:
        return repr(f"{scheme}{separator}…")
    place, question, _ = place.partition("?")
    host, slash, path = place.partition("/")
    name, colon, port = host.rpartition(":")
    if colon and port and not port.isdecimal() and not host.endswith("]"):
        host = f"{name}:…"
    return repr(f"{scheme}{separator}{'…' if at else ''}{at}{host}{slash}{path}{question}{'…' if question else ''}")[
        :120
    ]


def has_secret(url: str | URL) -> bool:
    """Whether a URL may hold what no message or command line shows."""
    try:
        parsed = make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return True
    return parsed.password is not None or any(map(is_secret_name, parsed.query))


def secrets_of(url: str) -> Iterator[str]:
    """The passwords of a URL, as they are and as they are written in it."""
    try:
        parsed = make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return
    if parsed.password:
        yield str(parsed.password)
        if written := re.search(r"://[^:/@]*:(.*)@", url):
            yield written[1]
    for name, value in parsed.query.items():
        if is_secret_name(name):
            yield from (value,) if isinstance(value, str) else value
