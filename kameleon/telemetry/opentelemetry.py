"""Spans and metrics of operations, with OpenTelemetry's API. Imports nothing of kameleon's but this package."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from opentelemetry import context, metrics, trace
from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

from .measures import (
    COUNTERS,
    DOCUMENTS,
    EMBEDDINGS,
    ERROR,
    HISTOGRAMS,
    QUERY_TEXT,
    RETRIEVAL,
    SIZE,
    STEP,
    WRITE,
    Measure,
    figures,
)
from .operations import Observed
from .sizes import index_sizes

SCOPE = "kameleon"
CALLS = (RETRIEVAL, EMBEDDINGS, WRITE)
"""Operations that call a database or a provider: spans of the kind CLIENT."""


class OpenTelemetry:
    """An observer. Without an SDK, whose providers do the work, all of it goes nowhere."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        *,
        query_text: bool,
        documents: bool,
    ) -> None:
        self.is_active = True
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
        self._hidden = {name for name, is_shown in ((QUERY_TEXT, query_text), (DOCUMENTS, documents)) if not is_shown}
        self._records: dict[str, Callable[..., None]] = {
            **{name: self._histogram(*each).record for name, each in HISTOGRAMS.items()},
            **{name: self._meter.create_counter(*measure[:3]).add for name, measure in COUNTERS.items()},
        }

    def _histogram(self, measure: Measure, borders: Sequence[float]) -> Histogram:
        return self._meter.create_histogram(*measure[:3], explicit_bucket_boundaries_advisory=list(borders))

    def begin(self, operation: Observed) -> tuple[Span, Any]:
        kind = SpanKind.CLIENT if operation.name in CALLS else SpanKind.INTERNAL
        span = self._tracer.start_span(
            operation.title, kind=kind, start_time=operation.started_ns, attributes=self._shown(operation.attributes)
        )
        return span, context.attach(trace.set_span_in_context(span))

    def end(self, operation: Observed, begun: tuple[Span, Any]) -> None:
        span, token = begun
        try:
            for measure, value, labels in figures(operation):  # inside the span, so that exemplars name it
                self._records[measure.name](value, labels)
        finally:
            context.detach(token)
            if span.is_recording():
                self._finish(span, operation)
            span.end()

    def _finish(self, span: Span, operation: Observed) -> None:
        span.update_name(operation.title)
        span.set_attributes(self._shown(operation.attributes))
        for measure, counts in operation.figures.items():
            span.set_attributes({f"{measure}.{outcome}": count for outcome, count in counts.items()})
        for seconds in operation.steps.values():
            span.set_attributes({f"{STEP}.{step}.duration": taken for step, taken in seconds.items()})
        if operation.error is not None:
            span.set_attribute(ERROR, operation.error)
            span.set_status(StatusCode.ERROR)  # without the message, which has values

    def _shown(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        return {name: as_attribute(value) for name, value in attributes.items() if name not in self._hidden}

    def read_status(self, read: Callable[[], Sequence[Any]]) -> None:
        """Read the sizes of an index whenever metrics are collected."""

        def observed(_options: CallbackOptions) -> Iterable[Observation]:
            sizes = index_sizes(read) if self.is_active else None
            return [Observation(size, labels) for size, labels in sizes or ()]

        self._meter.create_observable_gauge(SIZE.name, [observed], SIZE.unit, SIZE.description)


def as_attribute(value: Any) -> Any:
    """A value as OpenTelemetry takes it: documents are JSON text."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
