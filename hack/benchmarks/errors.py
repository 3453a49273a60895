"""Why a figure could not be measured. Raised by the measurements, and shown in the table by __main__.py."""

from hack.errors import ToolError


class Skipped(ToolError):
    """Something is missing on this machine. The message says what, in a few words."""
