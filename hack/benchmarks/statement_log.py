"""The statements that the operator's role sends, by the log of the embedded PostgreSQL. Called by idle.py.

PostgreSQL counts statements only by pg_stat_statements, which the embedded one does not have; the log has each of them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import psycopg

from hack.benchmarks.operator_system import OperatorSystem
from hack.database.embedded_postgres import LOG_FILE

MESSAGE = re.compile(r"LOG:  (?:execute [^:\n]+: |statement: (?P<together>.*(?:\n\t.*)*))")
"""One statement with parameters, or all that were sent together, as in "BEGIN; SELECT 1". Further lines begin with a tab."""
QUOTED = re.compile(r"'(?:''|\\.|[^'\\])*'|\"[^\"]*\"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|--[^\n]*", re.DOTALL)
"""What may have a semicolon that ends no statement."""


def statements_in(log: str) -> int:
    """How many statements this part of a log has. Those that were sent together count one by one."""
    return sum(1 if found["together"] is None else _statements_of(found["together"]) for found in MESSAGE.finditer(log))


def _statements_of(message: str) -> int:
    return sum(bool(part.strip()) for part in QUOTED.sub("''", message).split(";"))


@dataclass(frozen=True)
class StatementLog:
    path: Path

    def __len__(self) -> int:
        """In bytes."""
        return self.path.stat().st_size

    def statements_since(self, position: int) -> int:
        """How many were begun after the log had so many bytes."""
        with self.path.open("rb") as log:
            log.seek(position)
            return statements_in(log.read().decode(errors="replace"))


def log_statements(system: OperatorSystem) -> StatementLog | None:
    """Have PostgreSQL log what the operator's role sends over connections that it makes from now on.

    Returns None where the log is not readable here: of another server than the embedded one.
    """
    try:
        (folder,) = system.listings.run("SHOW data_directory")[0]
    except psycopg.errors.InsufficientPrivilege:
        return None
    path = Path(folder).with_name(LOG_FILE)
    if not path.exists():
        return None
    system.listings.run(f"ALTER ROLE \"{system.role}\" SET log_statement = 'all'")
    return StatementLog(path)
