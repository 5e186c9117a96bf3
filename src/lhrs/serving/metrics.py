"""Prometheus metrics of the server."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one server.

    Args:
        waiting: returns the number of requests that wait for the model.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = here = CollectorRegistry()
        self.requests = Counter("lhrs_requests", "Requests answered", ["route", "status"], registry=here)
        self.seconds = Histogram(
            "lhrs_request_seconds", "From request to answer", ["route"], buckets=_SECONDS, registry=here
        )
        self.batch = Histogram(
            "lhrs_batch_size", "Requests answered together", buckets=(1, 2, 4, 8, 16, 32), registry=here
        )
        self.tokens = Counter("lhrs_tokens", "Tokens read and written", ["kind"], registry=here)
        Gauge("lhrs_queue_length", "Requests that wait for the model", registry=here).set_function(waiting)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
