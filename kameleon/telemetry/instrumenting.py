"""Begins and ends tracing and measuring with OpenTelemetry. Imports `errors`."""

import os
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import MissingExtra
from .operations import observe, unobserve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from .opentelemetry import OpenTelemetry

QUERY_TEXT_VARIABLE = "KAMELEON_TELEMETRY_QUERY_TEXT"


class HasStatus(Protocol):
    """A SearchEngine."""

    def get_status(self) -> "Sequence[Any]": ...


_instrumented: "list[OpenTelemetry]" = []


def instrument(
    search: HasStatus | None = None,
    *,
    tracer_provider: "TracerProvider | None" = None,
    meter_provider: "MeterProvider | None" = None,
    query_text: bool = False,
    documents: bool = False,
) -> None:
    """Trace and measure what kameleon does in this process from now on, with OpenTelemetry's providers, those of the
    process where none are given. With `search` the sizes of its index are read, too, whenever metrics are collected.

    The texts of queries are in no span unless `query_text`, the entities, ids and scores of hits unless `documents`.
    Called again it replaces the settings. Raises MissingExtra without opentelemetry-api."""
    try:
        from .opentelemetry import OpenTelemetry
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        raise MissingExtra("opentelemetry-api", "otel") from error
    made = OpenTelemetry(tracer_provider, meter_provider, query_text=query_text, documents=documents)
    uninstrument()
    if search is not None:
        made.read_status(search.get_status)
    _instrumented.append(made)
    observe(made)


def uninstrument() -> None:
    """Stop what `instrument` began."""
    while _instrumented:
        made = _instrumented.pop()
        made.is_active = False
        unobserve(made)


class Instrumentor:
    """What `opentelemetry-instrument` calls: the entry point `kameleon` of the group `opentelemetry_instrumentor`. The
    environment's KAMELEON_TELEMETRY_QUERY_TEXT=true puts the texts of queries in spans."""

    def instrument(self, **options: Any) -> None:
        given = {name: options[name] for name in ("tracer_provider", "meter_provider") if name in options}
        instrument(**given, query_text=os.environ.get(QUERY_TEXT_VARIABLE, "").lower() in ("1", "true"))

    def uninstrument(self, **_options: Any) -> None:
        uninstrument()
