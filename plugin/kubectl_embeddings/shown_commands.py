"""The commands that are shown to be copied, complete with the namespace and the cluster that the user named. Pure.

Used by the verbs, by what they share, and by the page. Without these options a copied command might reach another cluster.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from kubectl_embeddings.layout import printable

NAMESPACE_OPTIONS = frozenset({"-n", "--namespace"})


@dataclass(frozen=True)
class Commands:
    options: Sequence[str] = ()
    """Those that the user gave on the command line and that name a cluster: --context and --kubeconfig."""
    namespace: str = ""
    """The one that the user gave on the command line; empty where none was given."""

    def of(self, command: str, namespace: str = "") -> str:
        """The command in the namespace that it names itself, in this one, or else in the one that was given.

        Empty where there is no command.
        """
        where = "" if NAMESPACE_OPTIONS & set(shlex.split(command)) else namespace or self.namespace
        return self._with(command, ["-n", where] if where else [])

    def of_cluster(self, command: str) -> str:
        """A command that needs no namespace."""
        return self._with(command, [])

    def _with(self, command: str, where: Sequence[str]) -> str:
        given = shlex.join([*where, *self.options])
        return f"{command} {given}" if command and given else command


BARE = Commands()
"""Nothing was named."""


def quoted(value: str) -> str:
    """A value for a shell. One with control characters or line breaks is written with escapes, as bash, zsh and ksh read them."""
    if "\n" not in value and printable(value) == value:
        return shlex.quote(value)
    return f"$'{''.join(map(_in_dollar_quotes, value))}'"


def _in_dollar_quotes(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if char not in "'\n" and printable(char) == char:
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
