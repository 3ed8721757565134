"""URLs of embedding servers: checks, identity, and what is stored or shown of them. Imports `errors`."""

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ..errors import InvalidInput, seen

PUBLIC_PARAMETERS = ("api-version", "api_version")
PORTS = {"http": 80, "https": 443}
MAX_URL = 2000
"""Bounds the characters of a URL that the registry holds. Chosen, not measured."""


def check_url(url: object) -> None:
    if url is None:
        return
    if not isinstance(url, str) or not url.isprintable() or len(url) >= MAX_URL or not is_http(url):
        raise InvalidInput(f"base_url is a URL such as http://localhost:8000/v1, not {seen(shown(url))}")


def is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def without_secrets_of(url: str) -> str:
    """The URL without the user, the password and the parameters that may hold a key: all but an API's version."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name in PUBLIC_PARAMETERS]
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=urlencode(kept), fragment=""))


def server_of(url: str) -> str:
    """Scheme, host, port and path of a URL in the form that equal URLs share: in lower case, but for the path, without
    a default port and a slash at the end."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host.rstrip(".")
    named = f":{port}" if port not in (None, PORTS.get(parts.scheme)) else ""
    path = re.sub("/+", "/", parts.path).rstrip("/")
    return f"{parts.scheme}://{host}{named}{path}"


def shown(url: object) -> object:
    """The URL for a message: what is before an @ may be a password."""
    return f"…@{url.rpartition('@')[2]}" if isinstance(url, str) and "@" in url else url


def connection_options(url: str | None) -> dict[str, Any]:
    """The base URL without its query, which the client would put into the path, and the query for each request."""
    if url is None:
        return {}
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return {
        "base_url": urlunsplit(parts._replace(query="", fragment="")),
        **({"default_query": query} if query else {}),
    }
