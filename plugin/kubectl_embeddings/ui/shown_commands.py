"""The commands that the page shows to copy, complete with the cluster and the namespace that the page is about. Pure."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Commands:
    options: Sequence[str] = ()
    """Those that the user gave to this command, such as --context: without them the copied one might reach another cluster."""

    def of(self, command: str, namespace: str) -> str:
        """The command with this namespace and the options; empty where there is no command."""
        return f"{command} {shlex.join(['-n', namespace, *self.options])}" if command else ""
