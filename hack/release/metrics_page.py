"""The tables of metrics in docs/metrics.md, from the code. `make format` writes it, and a test compares it."""

from embedding_operator.metrics import Described, Metrics
from embedding_operator.serve.metrics import ServeMetrics
from embedding_worker.clock import SystemClock
from hack.release.chart_readme import END
from hack.repository import ROOT

PAGE = ROOT / "docs" / "metrics.md"
BEGIN = "<!-- Made from operator/embedding_operator/metrics.py by `make format`: change the descriptions there. -->\n"
OF_SERVE = "`embedding-operator serve` has metrics of its own, on port 8080 of its pods:\n"


def line(metric: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.description} |".replace("|  |", "| |")


def table(metrics: list[Described]) -> str:
    lines = ["| metric | kind | labels | what it is |", "| --- | --- | --- | --- |", *map(line, metrics)]
    return "\n".join(lines) + "\n"


def up_to_date_page() -> str:
    before, _, table_and_after = PAGE.read_text().partition(BEGIN)
    _, _, after = table_and_after.partition(END)
    tables = f"{table(Metrics(clock=SystemClock()).described)}\n{OF_SERVE}\n{table(ServeMetrics().described)}"
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(up_to_date_page())
