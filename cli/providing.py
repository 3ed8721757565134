"""The options that name a provider, for every command that may make embeddings."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import click

from kameleon.errors import is_secret_name, redacted

from .app import App
from .chosen import Chosen

F = TypeVar("F", bound=Callable[..., Any])


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
            raise click.UsageError(f"--option {key}: secrets are read from the environment, such as OPENAI_API_KEY")
        pairs.append((key, rest))
    _remember(context, parameter, tuple(pairs) or None)


option = partial(click.option, expose_value=False)
OPTIONS = (
    option(
        *("--option", "provider_options"),
        metavar="NAME=VALUE",
        multiple=True,
        callback=_remember_given,
        help="Another argument of the provider's constructor, such as batch_size=32. Repeatable. API keys are read "
        "from environment variables.",
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
        metavar="N",
        help="Length of the vectors. A model that makes no vectors of this length is refused.",
    ),
    option(
        "--model",
        metavar="NAME|PATH",
        callback=_remember,
        help="The provider's model; without --provider, it determines the provider.",
    ),
    option(
        *("--provider", "provider_name"),
        metavar="NAME",
        callback=_remember,
        help="The provider: static, fastembed, openai, given (from outside), or one added. Else the index's own.",
    ),
)
