"""Prometheus metrics of one application, in a registry of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from linewise.service.errors import ServiceError
from linewise.service.inference.results import BatcherHooks, BatchReport

if TYPE_CHECKING:
    from linewise.service.inference.engine import Engine

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Problem codes of single images; all others count as rejected requests.
DECODE_CODES = frozenset(
    {"empty_file", "unsupported_image", "undecodable", "image_too_large", "image_too_small", "animated"}
)
_DROP_REASONS = ("cancelled", "expired")
_SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class Metrics(BatcherHooks):
    """Counters and histograms fed by events, and gauges that read the engine."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._waits = Histogram(
            "linewise_queue_wait_seconds",
            "Time from decoded image to batch, in seconds.",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self._sizes = Histogram("linewise_batch_size", "Images per batch.", buckets=_SIZE_BUCKETS, registry=registry)
        self._inference = Histogram(
            "linewise_inference_seconds",
            "Inference time of one batch, in seconds.",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self._columns = Counter("linewise_columns", "Pixel columns processed, padding included.", registry=registry)
        self._images = Counter("linewise_images", "Images recognised.", registry=registry)
        self._model_failures = Counter(
            "linewise_model_failures", "Batches that failed in the model.", registry=registry
        )
        self._dropped = Counter(
            "linewise_dropped", "Admitted images dropped before inference, by reason.", ["reason"], registry=registry
        )
        self._decode_failures = Counter(
            "linewise_decode_failures", "Images that could not be decoded, by code.", ["code"], registry=registry
        )
        self._rejected = Counter("linewise_rejected", "Rejected requests, by code.", ["reason"], registry=registry)
        self._requests = Counter(
            "linewise_http_requests",
            "HTTP requests by method, route and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._latency = Histogram(
            "linewise_http_request_seconds",
            "HTTP response time, in seconds.",
            ["route"],
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        """Expose each known reason and code as 0; a rate misses the increment that a series begins with."""
        for reason in _DROP_REASONS:
            self._dropped.labels(reason)
        for code in _problem_codes(ServiceError):
            (self._decode_failures if code in DECODE_CODES else self._rejected).labels(code)

    def watch(self, engine: Engine) -> None:
        """Register the gauges of an engine."""
        registry = self.registry
        Gauge("linewise_in_flight", "Images admitted and not yet answered.", registry=registry).set_function(
            lambda: engine.load[0]
        )
        Gauge("linewise_queue_depth", "Images waiting for the model.", registry=registry).set_function(
            lambda: engine.load[1]
        )
        Gauge(
            "linewise_expected_wait_seconds", "Expected queue wait of a new image, in seconds.", registry=registry
        ).set_function(lambda: engine.load[2])
        Gauge("linewise_ready", "1 if the service accepts requests, else 0.", registry=registry).set_function(
            lambda: float(engine.ready)
        )

    def batch(self, report: BatchReport) -> None:
        """Record a finished batch."""
        self._sizes.observe(report.items)
        self._inference.observe(report.duration)
        self._columns.inc(report.columns)
        self._images.inc(report.items)
        for wait in report.waits:
            self._waits.observe(wait)

    def dropped(self, reason: str) -> None:
        """Record an admitted image that was dropped before inference."""
        self._dropped.labels(reason).inc()

    def failed(self, items: int) -> None:
        """Record a batch that failed in the model."""
        self._model_failures.inc()

    def problem(self, code: str) -> None:
        """Record a problem answer for a request or one image of it."""
        if code in DECODE_CODES:
            self._decode_failures.labels(code).inc()
        else:
            self._rejected.labels(code).inc()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record an answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def exposition(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self.registry)


def _problem_codes(error: type[ServiceError]) -> set[str]:
    """The codes of an error and of those derived from it."""
    return {error.code}.union(*map(_problem_codes, error.__subclasses__()))
