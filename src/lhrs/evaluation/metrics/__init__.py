"""Metrics that compare answers with facts of a map, and the search for metrics of all packages.

They use `lhrs.align`, which `lhrs.metrics` may not import.
"""

from lhrs.metrics.metric import PACKAGE, Metric, get_metric

METRIC_PACKAGES = (PACKAGE, __name__)


def find_metric(name: str) -> Metric:
    """Return a metric by its name.

    Raises:
        ConfigError: there is no such metric.
    """
    return get_metric(name, METRIC_PACKAGES)
