"""One condition of a source, as Kubernetes writes it. Pure; made by source_status.py and backfill_status.py."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Condition:
    type: str
    status: bool | None
    reason: str
    message: str

    def as_dict(self, generation: int, since: str) -> dict[str, Any]:
        return {
            "type": self.type,
            "status": "Unknown" if self.status is None else str(self.status),
            "reason": self.reason,
            "message": self.message,
            "lastTransitionTime": since,
            "observedGeneration": generation,
        }
