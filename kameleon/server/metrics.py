"""Figures for Prometheus: /metrics, with what this process did and what is in the index. Imports `forking`, `telemetry`
and `values`."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..forking import per_process
from ..telemetry import observe
from ..telemetry.measures import COUNTERS, HISTOGRAMS, SECONDS, SIZE, Measure, figures
from ..telemetry.operations import Observed
from ..telemetry.sizes import index_sizes
from ..values import ALL_TENANTS
from .serving import Serving

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
"""Those that are counted each by itself; all others are one."""
REQUEST = Measure(
    "http.server.request.duration",
    "s",
    "Duration of a request to this server",
    ("http.request.method", "http.route", "http.response.status_code"),
)


def routes(serving: Serving) -> list[BaseRoute]:
    """Counts what this process does from now on."""
    observe(PROCESS)

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        joined = CollectorRegistry()
        for collector in (PROCESS.figures.registry, IndexFigures(serving)):
            joined.register(collector)
        return Response(encode(joined), headers={"content-type": content_type, "cache-control": "no-store"})

    return [Route("/metrics", metrics, name="metrics")]


class Figures:
    """Those of one process, in a registry of its own: the application's has none of them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        every = {**HISTOGRAMS, REQUEST.name: (REQUEST, SECONDS)}
        self.histograms = {name: self._histogram(*each) for name, each in every.items()}
        self.counters = {
            name: Counter(named(name), measure.description, named_all(measure.labels), registry=self.registry)
            for name, measure in COUNTERS.items()
        }

    def _histogram(self, measure: Measure, borders: Sequence[float]) -> Histogram:
        name = f"{named(measure.name)}{'_seconds' if measure.unit == 's' else ''}"
        return Histogram(name, measure.description, named_all(measure.labels), buckets=borders, registry=self.registry)

    def add(self, operation: Observed) -> None:
        for measure, value, labels in figures(operation):
            if measure.name in self.counters:
                self.counters[measure.name].labels(*values(measure, labels)).inc(value)
            else:
                self.histograms[measure.name].labels(*values(measure, labels)).observe(value)


class Process:
    """The observer of this process. A forked one counts from zero, with locks of its own."""

    @per_process
    def figures(self) -> Figures:
        return Figures()

    def begin(self, operation: Observed) -> None: ...

    def end(self, operation: Observed, _begun: None) -> None:
        self.figures.add(operation)


PROCESS = Process()


class IndexFigures(Collector):
    """What is in the index now: all of it, or what is the one tenant's that the server answers for. Nothing where that
    is decided by the request: a figure would be of other tenants' records."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterable[Metric]:
        if callable(self._serving.tenant):
            return
        tenant = ALL_TENANTS if self._serving.tenant is None else self._serving.tenant
        sizes = index_sizes(partial(self._serving.search.get_status, tenant=tenant))
        readable = GaugeMetricFamily("kameleon_index_readable", "1 where the index could be read, else 0")
        readable.add_metric([], 0 if sizes is None else 1)
        yield readable
        found = GaugeMetricFamily(named(SIZE.name), SIZE.description, labels=named_all(SIZE.labels))
        for size, labels in sizes or ():
            found.add_metric([labels[name] for name in SIZE.labels], size)
        yield found


class Measured:
    """Middleware that measures the requests of an application by route."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = [""], time.perf_counter()
        try:
            await self.app(scope, receive, noting(status, send))
        except Exception:  # it goes on to the host, which answers
            status[0] = "500"
            raise
        finally:
            method = scope["method"] if scope["method"] in METHODS else "_OTHER"
            route = getattr(scope.get("route"), "path", "")
            histogram = PROCESS.figures.histograms[REQUEST.name]
            histogram.labels(method, route, status[0]).observe(time.perf_counter() - started)


def noting(status: list[str], send: Send) -> Callable[[Message], Any]:
    """`send`, which notes the status of the answer first."""

    async def noted(message: Message) -> None:
        if message["type"] == "http.response.start":
            status[0] = str(message["status"])
        await send(message)

    return noted


def named(name: str) -> str:
    """A name as Prometheus has it."""
    return name.replace(".", "_")


def named_all(names: Iterable[str]) -> list[str]:
    return [named(name) for name in names]


def values(measure: Measure, attributes: Mapping[str, Any]) -> list[str]:
    """The values of a measure's labels, "" for those that are not there."""
    return [str(value) if (value := attributes.get(name)) is not None else "" for name in measure.labels]
