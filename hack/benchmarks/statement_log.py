"""The statements that the operator's role sends, by the log of the embedded PostgreSQL. Called by idle.py.

PostgreSQL counts statements only by pg_stat_statements, which the embedded one does not have; the log has each of them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from hack.benchmarks.errors import Skipped
from hack.benchmarks.operator_system import OperatorSystem

STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:\n]+): ")
"""One that was sent by itself, such as BEGIN, or with parameters. Further lines of a statement begin with a tab."""


def statements_in(log: str) -> int:
    """How many statements this part of a log has."""
    return len(STATEMENT.findall(log))


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


def log_statements(system: OperatorSystem) -> StatementLog:
    """Have PostgreSQL log what the operator's role sends over connections that it makes from now on. Raises Skipped."""
    (folder,) = system.listings.run("SHOW data_directory")[0]
    path = Path(folder).with_name("server.log")
    if not path.exists():
        raise Skipped("skipped: the log of this PostgreSQL is not readable here")
    system.listings.run(f"ALTER ROLE \"{system.role}\" SET log_statement = 'all'")
    return StatementLog(path)
