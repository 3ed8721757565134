"""`kameleon embeddings …`: the models of the index and what is still to embed."""

from dataclasses import asdict

import click

from .app import App, common, pass_app


@click.group()
def embeddings() -> None:
    """Show and complete the embeddings."""


@embeddings.command()
@click.option("--failed", "list_failed", is_flag=True, help="List the records that the provider refused, and why.")
@common
@pass_app
def status(app: App, list_failed: bool) -> None:
    """Show provider, model and dimensions, and how much of each entity is embedded."""
    engine = app.open()
    models = engine.generations()
    if list_failed:
        failures = engine.failures()
        if app.as_json:
            app.print_json([asdict(failure) for failure in failures])
        else:
            rows = [(f.entity, f.id, f.reason, f.attempts, f.message) for f in failures]
            app.print_rows(("entity", "id", "reason", "attempts", "message"), rows)
        return
    found = engine.get_status()
    if app.as_json:
        generations = [asdict(model) for model in models]
        app.print_json({"generations": generations, "entities": [asdict(status) for status in found]})
        return
    for model in models:
        name = f"{model.provider} {model.model_name}, {model.dimensions} dimensions"
        click.echo(f"{model.state}: {name} (generation {model.number})")
    if not models:
        click.echo("no model yet: the first record makes one")
    counts = [(s.entity, s.indexed, s.pending, s.failed, f"{s.last_updated:%Y-%m-%d %H:%M:%S} UTC") for s in found]
    app.print_rows(("entity", "indexed", "pending", "failed", "last updated"), counts)


@embeddings.command()
@click.option("--batch-size", type=click.IntRange(1), default=1000, show_default=True, help="Records a transaction.")
@click.option("--retry-failed", is_flag=True, help="Also try again what the provider refused.")
@common
@pass_app
def sync(app: App, batch_size: int, retry_failed: bool) -> None:
    """Embed what is pending. Running it twice does nothing twice.

    \b
    kameleon embeddings sync --retry-failed
    """
    report = app.open().sync(batch_size=batch_size, retry_failed=retry_failed)
    if app.as_json:
        app.print_json(
            {
                "embedded": report.embedded,
                "reused": report.reused,
                "failed": report.failed,
                "pending": report.pending,
                "outage": report.outage,
            }
        )
    else:
        click.echo(f"{report.embedded + report.reused} embedded, {report.failed} failed, {report.pending} pending")
    if report.outage:
        click.echo(f"stopped, the provider is down: {report.outage}", err=True)
        raise click.exceptions.Exit(1)
