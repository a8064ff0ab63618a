"""Figures for Prometheus. Labels come from fixed sets (route templates, never paths), so that their number is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

from nertune.errors import MissingExtraError
from nertune.serve.replies import ASGIApp, Receive, Scope, Send, refuse_method, send_error

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
    from prometheus_client.core import CounterMetricFamily
except ImportError as error:
    raise MissingExtraError("Serving", extra="serve") from error

__all__ = ["Metrics", "MetricsRoute"]

_CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_METHODS = {"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """One server's figures in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "nertune_http_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "nertune_http_request_seconds",
            "From a request's headers to the end of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._refused = Counter(
            "nertune_http_refused", "Requests and connections refused", ["reason"], registry=self.registry
        )
        self._in_flight = Gauge("nertune_http_requests_in_flight", "Requests under way", registry=self.registry)

    def begin(self) -> None:
        """A request has come."""
        self._in_flight.inc()

    def end(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Its answer has been sent, or it is gone. `route` is a template: `/v1/models/{id}`."""
        self._in_flight.dec()
        self._requests.labels(method if method in _METHODS else "OTHER", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """Something was refused; `reason` is one of few fixed words."""
        self._refused.labels(reason).inc()

    def gauge(self, name: str, help: str, value: Callable[[], float]) -> None:
        """A figure of the application that is asked for whenever somebody looks: a queue's length, rows decoded."""
        Gauge(f"nertune_{name}", help, registry=self.registry).set_function(value)

    def counter(self, name: str, help: str, value: Callable[[], float]) -> None:
        """Likewise a count that only grows; Prometheus gets it with `_total` at its end."""
        self.registry.register(_Counted(f"nertune_{name}", help, value))

    def render(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


class _Counted:
    """A counter that the application keeps; prometheus_client's own can only be counted up."""

    def __init__(self, name: str, help: str, value: Callable[[], float]) -> None:
        self._name, self._help, self._value = name, help, value

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._help, value=self._value())


class MetricsRoute:
    """Answers /metrics, whatever application stands behind."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/metrics":
            await self._app(scope, receive, send)
            return
        scope["route"] = SimpleNamespace(path="/metrics")
        if scope["method"] != "GET":
            message, methods = refuse_method("/metrics", "GET")
            allow = [(b"allow", methods.encode())]
            await send_error(scope, send, 405, message, code="method_not_allowed", headers=allow)
            return
        content = self._metrics.render()
        headers = [(b"content-type", _CONTENT_TYPE), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})
