"""Why a figure could not be measured. Raised by the measurements, and shown in the table by __main__.py."""

from collections.abc import Mapping

from hack.errors import ToolError


class Skipped(ToolError):
    """Something is missing on this machine. The message says what, in a few words.

    `found` has those figures of the measurement that could be measured without it.
    """

    def __init__(self, why: str, found: Mapping[str, float] | None = None) -> None:
        super().__init__(why)
        self.found = found or {}
