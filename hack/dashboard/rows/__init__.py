"""The rows of the dashboard, from top to bottom. Read by grafana.py."""

from hack.dashboard.rows.operator import BACKFILL_AND_AUDIT, OPERATOR
from hack.dashboard.rows.overview import OVERVIEW
from hack.dashboard.rows.provider import DEAD_LETTERS, PROVIDER
from hack.dashboard.rows.work import LATENCY, THROUGHPUT

ROWS = (OVERVIEW, THROUGHPUT, LATENCY, PROVIDER, DEAD_LETTERS, BACKFILL_AND_AUDIT, OPERATOR)
