"""Which model a provider is of, and the command that moves an index to it. Imports `errors` and `embeddings`."""

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import redacted

if TYPE_CHECKING:
    from ..embeddings.provider import EmbeddingProvider

FLAGS = {"model": "--model", "model_name": "--model", "dimensions": "--dimensions", "base_url": "--base-url"}


def origin(options: Mapping[str, Any]) -> str:
    """Describes which of several models of one name a provider's options identify."""
    server = f" at {options['base_url']}" if "base_url" in options else ""
    return f"{server}, revision {options['revision']}" if "revision" in options else server


def command(provider: "EmbeddingProvider") -> str:
    """Renders what moves an index to a provider's model: a command where a command line can name all of its options."""
    from ..embeddings import provider_names

    by_object = "search.reindex() of an engine with this provider"
    options = {"model": provider.model_name} if provider.name == "static" else {}
    options |= provider.options
    if "path" in options:
        options["model"] = options.pop("path")
    words = ["kameleon", "embeddings", "reindex", "--provider", provider.name]
    for name, value in options.items():
        text = value if isinstance(value, str) else json.dumps(value)
        words += [FLAGS[name], text] if name in FLAGS else ["--option", f"{name}={text}"]
    line = shlex.join(words)
    is_known = provider.name in provider_names()
    is_plain = all(isinstance(value, str | int | float | bool | None) for value in options.values())
    if not (is_known and is_plain) or "`" in line or redacted(line) != line:
        return by_object
    return f"`{line}`, or {by_object}"
