"""What an operator watches, for Prometheus; the registry belongs to one application and is no global."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from linewise.service.inference.queue import BatcherHooks, BatchReport

if TYPE_CHECKING:
    from linewise.service.inference.engine import Engine

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Codes that are the fault of one image; whatever else is refused counts as rejected.
DECODE_CODES = frozenset(
    {"empty_file", "unsupported_image", "undecodable", "image_too_large", "image_too_small", "animated"}
)
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics(BatcherHooks):
    """Counters and histograms that are told, gauges that look."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._waits = Histogram(
            "linewise_queue_wait_seconds", "Time between decoding and reading.", buckets=_FAST, registry=registry
        )
        self._sizes = Histogram("linewise_batch_size", "Images read at once.", buckets=_SIZES, registry=registry)
        self._inference = Histogram(
            "linewise_inference_seconds", "Time to read one batch.", buckets=_FAST, registry=registry
        )
        self._columns = Counter("linewise_columns", "Columns read, padding included.", registry=registry)
        self._images = Counter("linewise_images", "Images read.", registry=registry)
        self._model_failures = Counter("linewise_model_failures", "Times that the model raised.", registry=registry)
        self._dropped = Counter("linewise_dropped", "Admitted images left unread.", ["reason"], registry=registry)
        self._decode_failures = Counter(
            "linewise_decode_failures", "Images of no use, by code.", ["code"], registry=registry
        )
        self._rejected = Counter("linewise_rejected", "Requests refused, by code.", ["reason"], registry=registry)
        self._requests = Counter(
            "linewise_http_requests", "Requests by route and status.", ["method", "route", "status"], registry=registry
        )
        self._latency = Histogram(
            "linewise_http_request_seconds", "Time to answer.", ["route"], buckets=_FAST, registry=registry
        )

    def watch(self, engine: Engine) -> None:
        """Add the gauges of an engine."""
        registry = self.registry
        Gauge("linewise_in_flight", "Images admitted, not answered.", registry=registry).set_function(
            lambda: engine.load[0]
        )
        Gauge("linewise_queue_depth", "Images waiting for the model.", registry=registry).set_function(
            lambda: engine.load[1]
        )
        Gauge("linewise_expected_wait_seconds", "Wait that a new image is promised.", registry=registry).set_function(
            lambda: engine.load[2]
        )
        Gauge("linewise_ready", "Whether requests are taken: 1 or 0.", registry=registry).set_function(
            lambda: float(engine.ready)
        )

    def batch(self, report: BatchReport) -> None:
        """A batch was read."""
        self._sizes.observe(report.items)
        self._inference.observe(report.duration)
        self._columns.inc(report.columns)
        self._images.inc(report.items)
        for wait in report.waits:
            self._waits.observe(wait)

    def dropped(self, reason: str) -> None:
        """An admitted image was left unread."""
        self._dropped.labels(reason).inc()

    def failed(self, items: int) -> None:
        """The model raised."""
        self._model_failures.inc()

    def problem(self, code: str) -> None:
        """A request, or one image of it, was answered with a problem."""
        if code in DECODE_CODES:
            self._decode_failures.labels(code).inc()
        else:
            self._rejected.labels(code).inc()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
