"""The options that name a provider, for every command that may make embeddings. Imports providers when used."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kameleon.errors import KameleonError, is_secret_name, redacted

from .app import App

if TYPE_CHECKING:
    from kameleon.embeddings import EmbeddingProvider
    from kameleon.values import Generation

F = TypeVar("F", bound=Callable[..., Any])
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

    name: str | None = None
    model: str | None = None
    dimensions: int | None = None
    base_url: str | None = None
    given: tuple[tuple[str, str], ...] = ()

    @property
    def is_of_server(self) -> bool:
        """Whether more is given than `reindex` takes by name."""
        return self.base_url is not None or bool(self.given)

    def provider(self, known: "Sequence[Generation]") -> "EmbeddingProvider":
        """With the options of the index's own provider where no other is named. Raises click.UsageError."""
        from kameleon.embeddings import chosen, get_provider
        from kameleon.stores.catalog import current

        own = current(known)
        if self.name is None and self.model is None and own is not None and own.provider:
            name, options = own.provider, dict(own.options)
        else:
            named = self.name or ("openai" if self.base_url is not None else None)
            name, options = chosen(named, self.model, self.dimensions)
        if self.base_url is not None:
            options["base_url"] = self.base_url
        parameters = parameters_of(name)
        if self.dimensions is not None and "dimensions" in parameters:
            options["dimensions"] = self.dimensions
        if self.base_url is not None and "base_url" not in parameters:
            raise click.UsageError(f"provider {name} has no server: leave --base-url out, or name --provider openai")
        options |= {key: typed(name, key, value, parameters) for key, value in self.given}
        made = get_provider(name, **options)
        if self.dimensions not in (None, made.dimensions):
            raise click.UsageError(f"{made.model_name} makes {made.dimensions} dimensions, not {self.dimensions}")
        return made


def parameters_of(name: str) -> Mapping[str, inspect.Parameter]:
    """Those of a provider's constructor that a command line may give: secrets come by the environment."""
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


def providing(command: F) -> F:
    """Add --provider, --model, --dimensions, --base-url and --option."""
    for option in OPTIONS:
        command = option(command)
    return command


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and parameter.name:
        app = context.find_root().ensure_object(App)
        app.chosen = replace(app.chosen or Chosen(), **{parameter.name: value})


def _remember_url(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and redacted(value) != value:
        raise click.UsageError("--base-url holds no user, password or key: the key comes by OPENAI_API_KEY")
    _remember(context, parameter, value)


def _remember_given(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> None:
    pairs = []
    for value in values:
        key, equals, rest = value.partition("=")
        if not equals or not key.isidentifier():
            raise click.UsageError(f"--option is NAME=VALUE, such as passage_tokens=256, not {key!r:.40}")
        if is_secret_name(key):
            raise click.UsageError(f"--option {key}: secrets come by the environment, such as OPENAI_API_KEY")
        pairs.append((key, rest))
    _remember(context, parameter, tuple(pairs) or None)


option = partial(click.option, expose_value=False)
OPTIONS = (
    option(
        *("--option", "given"),
        metavar="NAME=VALUE",
        multiple=True,
        callback=_remember_given,
        help="Another option of the provider's constructor. Repeatable. Keys come by the environment.",
    ),
    option(
        "--base-url",
        metavar="URL",
        callback=_remember_url,
        help="The server with OpenAI's protocol, such as http://localhost:8000/v1.",
    ),
    option(
        "--dimensions",
        type=click.IntRange(1),
        callback=_remember,
        help="Refuse a model that makes others; a provider may cut them.",
    ),
    option(
        "--model",
        metavar="NAME|PATH",
        callback=_remember,
        help="The provider's model; without --provider, it determines the provider.",
    ),
    option(
        *("--provider", "name"),
        metavar="NAME",
        callback=_remember,
        help="The provider: static, fastembed, openai, or one added. Else the index's own.",
    ),
)
