"""Spans and metrics of operations, with OpenTelemetry's API. Imports nothing of kameleon's but this package."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from opentelemetry import context, metrics, trace
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

from .measures import (
    AMOUNTS,
    COUNTERS,
    DOCUMENTS,
    DURATIONS,
    EMBEDDINGS,
    ERROR,
    OUTCOME,
    QUERY_TEXT,
    RETRIEVAL,
    SECONDS,
    SIZE,
    STEP,
    STEPS,
    WRITE,
    Measure,
    labelled,
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
        timed = {measure.name: measure for measure in (*DURATIONS.values(), *STEPS.values())}
        self._histograms = {name: histogram(self._meter, measure, SECONDS) for name, measure in timed.items()}
        self._amounts = {name: histogram(self._meter, measure, borders) for name, (measure, borders) in AMOUNTS.items()}
        self._counters = {
            name: self._meter.create_counter(measure.name, measure.unit, measure.description)
            for name, measure in COUNTERS.items()
        }

    def begin(self, operation: Observed) -> tuple[Span, Any]:
        kind = SpanKind.CLIENT if operation.name in CALLS else SpanKind.INTERNAL
        span = self._tracer.start_span(
            operation.title, kind=kind, start_time=operation.started_ns, attributes=self._shown(operation.attributes)
        )
        return span, context.attach(trace.set_span_in_context(span))

    def end(self, operation: Observed, begun: tuple[Span, Any]) -> None:
        span, token = begun
        try:
            self._measure(operation)  # inside the span, so that exemplars name it
        finally:
            context.detach(token)
            if span.is_recording():
                self._finish(span, operation)
            span.end()

    def _finish(self, span: Span, operation: Observed) -> None:
        span.update_name(operation.title)
        span.set_attributes(self._shown(operation.attributes))
        for measure, figures in operation.figures.items():
            span.set_attributes({f"{measure}.{outcome}": figure for outcome, figure in figures.items()})
        for seconds in operation.steps.values():
            span.set_attributes({f"{STEP}.{step}.duration": taken for step, taken in seconds.items()})
        if operation.error is not None:
            span.set_attribute(ERROR, operation.error)
            span.set_status(StatusCode.ERROR)  # without the message, which has values

    def _measure(self, operation: Observed) -> None:
        attributes = operation.attributes
        if (measure := DURATIONS.get(operation.name)) is not None:
            self._histograms[measure.name].record(operation.seconds, labels(measure, operation))
        for name, seconds in operation.steps.items():
            for step, taken in seconds.items():
                self._histograms[STEPS[name].name].record(taken, {STEP: step})
        for name, figures in operation.figures.items():
            for outcome, figure in figures.items():
                self._counters[name].add(figure, {OUTCOME: outcome})
        for name in AMOUNTS.keys() & attributes.keys():
            self._amounts[name].record(attributes[name], labels(AMOUNTS[name][0], operation))

    def _shown(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        return {name: as_attribute(value) for name, value in attributes.items() if name not in self._hidden}

    def read_status(self, read: Callable[[], Sequence[Any]]) -> None:
        """Read the sizes of an index whenever metrics are collected."""

        def observed(_options: CallbackOptions) -> Iterable[Observation]:
            sizes = index_sizes(read) if self.is_active else None
            return [Observation(size, labels) for size, labels in sizes or ()]

        self._meter.create_observable_gauge(SIZE.name, [observed], SIZE.unit, SIZE.description)


def histogram(meter: Meter, measure: Measure, borders: Sequence[float]) -> Histogram:
    return meter.create_histogram(
        measure.name, measure.unit, measure.description, explicit_bucket_boundaries_advisory=list(borders)
    )


def labels(measure: Measure, operation: Observed) -> dict[str, Any]:
    """The attributes that a measure has of an operation."""
    attributes = labelled(operation)
    return {name: attributes[name] for name in measure.labels if name in attributes}


def as_attribute(value: Any) -> Any:
    """A value as OpenTelemetry takes it: documents are JSON text."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
