"""The provider that a command line names, made with its options. Imports public names of kameleon when used."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from kameleon.errors import KameleonError, is_secret_name

if TYPE_CHECKING:
    from kameleon.embeddings import EmbeddingProvider
    from kameleon.values import Generation

TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "Path": (str,),
    "bool": (bool,),
    "int": (int, type(None)),
    "float": (int, float, type(None)),
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the command line names of the provider; the rest is the index's own."""

    provider_name: str | None = None
    model: str | None = None
    dimensions: int | None = None
    base_url: str | None = None
    provider_options: tuple[tuple[str, str], ...] = ()

    @property
    def is_of_server(self) -> bool:
        """Whether more is given than `reindex` takes by name."""
        return self.base_url is not None or bool(self.provider_options)

    def provider(self, known: "Sequence[Generation]") -> "EmbeddingProvider":
        """With the options of the index's own provider where no other is named. Raises click.UsageError."""
        from kameleon.embeddings import chosen, get_provider
        from kameleon.stores.catalog import current

        own = current(known)
        if self.provider_name is None and self.model is None and own is not None and own.provider:
            name, options = own.provider, dict(own.options)
        else:
            named = self.provider_name or ("openai" if self.base_url is not None else None)
            name, options = chosen(named, self.model, self.dimensions)
        if self.base_url is not None:
            options["base_url"] = self.base_url
        parameters = parameters_of(name)
        if self.dimensions is not None and "dimensions" in parameters:
            options["dimensions"] = self.dimensions
        if self.base_url is not None and "base_url" not in parameters:
            raise click.UsageError(f"provider {name} has no server: leave --base-url out, or name --provider openai")
        options |= {key: typed(name, key, value, parameters) for key, value in self.provider_options}
        made = get_provider(name, **options)
        if self.dimensions is not None and self.dimensions != made.dimensions:
            raise click.UsageError(f"{made.model_name} makes {made.dimensions} dimensions, not {self.dimensions}")
        return made


def parameters_of(name: str) -> Mapping[str, inspect.Parameter]:
    """Those of a provider's constructor that a command line may give: secrets are read from environment variables."""
    from kameleon.embeddings import provider_class

    try:
        found = inspect.signature(provider_class(name), eval_str=True).parameters
    except KameleonError as error:
        raise click.UsageError(str(error)) from error
    return {key: one for key, one in found.items() if not is_secret_name(key)}


def typed(name: str, key: str, value: str, parameters: Mapping[str, inspect.Parameter]) -> Any:
    """An option's value with the type that the constructor annotates."""
    if key not in parameters:
        raise click.UsageError(f"provider {name} has no option {key}. It has: {', '.join(parameters)}")
    wanted = {part for part in TYPES if part in str(parameters[key].annotation)}
    if not wanted or "str" in wanted:
        return value
    try:
        made = json.loads(value)
    except ValueError:
        made = value
    if not isinstance(made, tuple(kind for part in wanted for kind in TYPES[part])):
        raise click.UsageError(f"--option {key} is {' or '.join(sorted(wanted))}, not {value!r:.60}")
    return made
