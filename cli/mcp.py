"""`kameleon mcp`: search as tools of an agent. Imports what commands share, and the server when it is used."""

import os
import signal
from collections.abc import Mapping, Sequence

import click

from .app import App, common, importing, pass_app
from .providing import providing
from .serve import Binding, announce, binding

PREFIX = "KAMELEON_MCP_DESCRIBE_"


def read_descriptions(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> Mapping[str, str]:
    """Those of the environment, and those of the option instead."""
    found = {name.removeprefix(PREFIX).lower(): text for name, text in os.environ.items() if name.startswith(PREFIX)}
    for each in given:
        tool, equals, text = each.partition("=")
        if not (tool and equals and text.strip()):
            raise click.UsageError(f"--describe is TOOL=TEXT such as 'search=Search our tickets', not {each:.40}")
        found[tool] = text
    return found


@click.command()
@click.option("--http", is_flag=True, help="Serve Streamable HTTP at /mcp, not standard input and output.")
@click.option("--write", is_flag=True, help="Add the tools store and delete.")
@click.option(
    "--max-tokens",
    type=click.IntRange(500, 100_000),
    default=4_000,
    show_default=True,
    envvar="KAMELEON_MCP_MAX_TOKENS",
    help="Cut results to about so many tokens.",
)
@click.option(
    "--describe",
    "descriptions",
    multiple=True,
    metavar="TOOL=TEXT",
    callback=read_descriptions,
    help="Describe a tool by this text, instead of its own and the entities. Repeatable.",
)
@binding
@importing
@providing
@common
@pass_app
def mcp(app: App, binding: Binding, http: bool, write: bool, max_tokens: int, descriptions: Mapping[str, str]) -> None:
    """Serve search, and the records that it finds, as tools of an agent (Model Context Protocol).

    Clients start it and use its standard input and output; with --http they connect to it. It changes nothing without
    --write.

    \b
    kameleon mcp
    kameleon mcp --write --tenant acme
    kameleon mcp --http --port 9000
    """
    options = {"descriptions": descriptions, "max_tokens": max_tokens}
    search = app.open(create=write)
    if http:
        binding.run(
            search,
            lambda address: announce(app, f"{address.rstrip('/')}/mcp", write),
            write=write,
            mcp=options,
            page=False,
        )
        return
    if callable(binding.tenant):
        raise click.UsageError("--tenant-header is of requests by HTTP: add --http, or name one tenant with --tenant")
    from kameleon.server.mcp import serve_stdio

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a thread waits for input, which no exception ends
    serve_stdio(search, write=write, tenant=binding.tenant, **options)
