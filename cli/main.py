"""The command's root. Imports all commands. Errors of kameleon are one line on stderr and exit status 1."""

import os
import sys
from io import StringIO

import click

from kameleon.errors import KameleonError, printable, shortened

from .app import App, common, echo
from .data import data
from .distribute import distribute
from .doctor import doctor
from .embeddings import embeddings
from .entity import entity
from .evaluating import evaluation
from .judgements import judgements
from .mcp import mcp
from .moving import export, import_
from .purging import purge
from .rebuilding import rebuild
from .rules import rules
from .search import search, similar
from .serve import serve
from .suggest import suggest
from .synonyms import synonyms
from .table import table
from .tenants import tenants


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="kameleon", prog_name="kameleon")
@common
def kameleon() -> None:
    """Hybrid search, keywords and vectors, in the database you already have.

    The database is --database, else KAMELEON_URL, else kameleon.db in the current folder. Of several indexes in it
    --namespace, else KAMELEON_NAMESPACE, names one. KAMELEON_LANGUAGE is the language of a new index (english, german,
    … or simple, without stems and stop words). On PostgreSQL KAMELEON_SCHEMA names the schema of its tables, and
    KAMELEON_KEYWORD_SEARCH is where a new index ranks keywords (index or server).

    \b
    kameleon data insert Ticket --from-file tickets.jsonl
    kameleon search "cannot log in" --where '{"status": "open"}'
    """


for command in (
    *(data, distribute, doctor, embeddings, entity, evaluation, judgements),
    *(export, import_, mcp, purge, rebuild, rules, search, serve, similar, suggest, synonyms, table, tenants),
):
    kameleon.add_command(command)


def main() -> None:
    app = App()
    try:
        status = kameleon.main(standalone_mode=False, obj=app)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.ClickException as error:
        shown = StringIO()
        error.show(file=shown)
        report(app, shortened(shown.getvalue()).rstrip("\n"))
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except UnicodeEncodeError as error:
        click.echo(f"Error: the output's encoding {error.encoding} cannot carry this text. Set PYTHONUTF8=1", err=True)
        status = 1
    except (KameleonError, OSError) as error:
        report(app, f"Error: {printable(shortened(str(error)))}")
        status = 1
    except Exception:  # noqa: BLE001 - an error of kameleon's own: its traceback is printed without secrets
        from traceback import format_exc  # slow to load: not for `--help`

        report(app, format_exc())
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def report(app: App, message: str) -> None:
    """Print an error, without the secrets of this database's URL."""
    echo(app.advised(app.without_secrets(message)), err=True)
