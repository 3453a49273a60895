"""Parts of the queries of the dashboard. Pure; called by the modules of hack/dashboard/rows.

A query reads the series of the chosen namespace and sources only. Each source has its gauges in the leader and perhaps, until its
process ends, in the previous leader: so every query begins with an aggregation.
"""

from hack.dashboard.panels import Query

HERE = 'namespace="$namespace"'
OF_SOURCE = f'{HERE}, source=~"$source"'
EVERY = "$__rate_interval"


def gauge(metric: str, more: str = "") -> str:
    """The present value of this metric of each source."""
    matchers = f"{OF_SOURCE}, {more}" if more else OF_SOURCE
    return f"max by (source) (embedding_operator_{metric}{{{matchers}}})"


def rate(metric: str, more: str = "", *, by: str = "") -> str:
    """By how much this counter grows in a second."""
    matchers = f"{OF_SOURCE}, {more}" if more else OF_SOURCE
    summed = f"sum by ({by}) " if by else "sum"
    return f"{summed}(rate(embedding_operator_{metric}{{{matchers}}}[{EVERY}]))"


def quantiles(histogram: str) -> tuple[Query, ...]:
    """Half, 95% and 99% of what the histogram observes takes less than the answers."""
    return tuple(
        Query(f"histogram_quantile({part}, {rate(f'{histogram}_bucket', by='le')})", f"p{round(part * 100)}")
        for part in (0.5, 0.95, 0.99)
    )


def by_source(expr: str, legend: str = "{{source}}", *, dashed: bool = False) -> Query:
    return Query(expr, legend, dashed)


def of_process(expr: str) -> str:
    """Restricts a metric that every process has to the operator's own."""
    return f"{expr} and on (namespace, instance) embedding_operator_build_info{{{HERE}}}"


JOBS = "job_transitions_total"
RETRYING = 'phase="Retrying"'


def as_asked(expr: str, *, namespace: str, interval: str) -> str:
    """As Grafana sends it, with all sources of this namespace."""
    chosen = {"$namespace": namespace, "$source": ".*", EVERY: interval}
    for variable, value in chosen.items():
        expr = expr.replace(variable, value)
    return expr
