"""`kameleon serve`: the page and the API over HTTP. Imports what commands share, and the server when it is used."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .app import App, common, importing, pass_app
from .providing import providing

if TYPE_CHECKING:
    from kameleon import SearchEngine

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Binding:
    """Where a server listens, for which names, and what its requests bring."""

    host: str
    port: int
    token: str | None
    hosts: Sequence[str]
    root_path: str
    tenant: Any

    def run(self, search: "SearchEngine", opened: Callable[[str], None], *, write: bool, **options: Any) -> None:
        """Serve until a signal, with `options` of the application; `opened` is called with the address."""
        from kameleon.server import app
        from kameleon.server.running import Prefixed, address_of, listen, run

        made = app(search, write=write, tenant=self.tenant, token=self.token, hosts=self.hosts, **options)
        served = Prefixed(made, self.root_path) if self.root_path.strip("/") else made
        listening = listen(self.host, self.port)
        opened(address_of(listening, self.root_path))
        run(served, listening)


def binding(command: F) -> F:
    """Add the options of a server on HTTP, as `binding`."""

    @wraps(command)
    def called(
        *args: Any,
        host: str,
        token: str | None,
        token_file: str | None,
        tenant: str | None,
        tenant_header: str | None,
        **options: Any,
    ) -> Any:
        from kameleon.server import tenant_of_header
        from kameleon.server.running import is_loopback

        if tenant and tenant_header:
            raise click.UsageError("--tenant and --tenant-header exclude each other")
        token = given_token(token, token_file)
        if token is None and not is_loopback(host):
            raise click.UsageError(
                f"--host {host} is open to other machines: give a token that requests have to bring, by "
                "KAMELEON_TOKEN, --token-file or --token"
            )
        found = Binding(
            host,
            options.pop("port"),
            token,
            options.pop("hosts"),
            options.pop("root_path"),
            tenant_of_header(tenant_header) if tenant_header else tenant,
        )
        return command(*args, binding=found, **options)

    for option in reversed(OPTIONS):
        called = option(called)
    return called  # type: ignore[return-value]


OPTIONS = (
    click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="The address to listen at."),
    click.option(
        "--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="The port; 0 is a free one."
    ),
    click.option(
        "--token",
        metavar="TEXT",
        help="What requests have to bring; needed at other addresses. Other users of the machine see it here: rather "
        "set KAMELEON_TOKEN.",
    ),
    click.option("--token-file", type=click.Path(dir_okay=False), metavar="FILE", help="Read the token from a file."),
    click.option(
        *("--allowed-host", "hosts"),
        multiple=True,
        metavar="NAME",
        help="A name that the server is called by, such as that of a proxy in front. Repeatable.",
    ),
    click.option("--root-path", default="", metavar="PATH", help="The path that a proxy in front serves it below."),
    click.option("--tenant", metavar="NAME", help="The tenant of every request; without it requests name theirs."),
    click.option(
        "--tenant-header", metavar="NAME", help="The header that holds a request's tenant, which a proxy in front sets."
    ),
)


def given_token(token: str | None, file: str | None) -> str | None:
    """That of the option, of the file, or of KAMELEON_TOKEN."""
    if token is not None and file is not None:
        raise click.UsageError("--token and --token-file exclude each other")
    if file is not None:
        return Path(file).read_text("utf-8").strip()
    return token if token is not None else os.environ.get("KAMELEON_TOKEN") or None


@click.command()
@click.option("--write", is_flag=True, help="Let requests change records, judgements and the weight of the legs.")
@click.option("--mcp", is_flag=True, help="Answer agents at /mcp, too, as `kameleon mcp --http` does.")
@click.option("--no-browser", is_flag=True, help="Do not open the page in a browser.")
@click.option("--title", default="kameleon", show_default=True, metavar="TEXT", help="The title of the page.")
@binding
@importing
@providing
@common
@pass_app
def serve(app: App, binding: Binding, write: bool, mcp: bool, no_browser: bool, title: str) -> None:
    """Serve a page to search with, and an API, on this machine. Runs until SIGTERM or Ctrl-C.

    It changes nothing without --write. At an address that other machines can connect to it needs a token.

    \b
    kameleon serve
    kameleon serve --write --port 9000 --no-browser
    """

    def opened(address: str) -> None:
        import webbrowser  # slow to load

        announce(app, address, write)
        if not no_browser and has_screen():
            Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    binding.run(app.open(create=write), opened, write=write, mcp=mcp, title=title)


def announce(app: App, url: str, write: bool) -> None:
    """Print the address of a server, and whether it writes."""
    app.show({"url": url, "write": write}, f"serving {url}{'' if write else ', read-only'}. Ctrl-C ends it")
    sys.stdout.flush()


def has_screen() -> bool:
    """Whether a browser would open a window, and not take over the terminal or what runs in the background."""
    is_windowed = sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
    return is_windowed and sys.stdout.isatty()
