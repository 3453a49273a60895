"""What the handlers need of the process: one typed object, passed to `register`, in place of attributes on kopf's memo."""

from dataclasses import dataclass

from embedding_operator.reconciler.shared import Shared
from embedding_operator.reconciler.sources import Sources


@dataclass
class Context:
    shared: Shared
    sources: Sources
    takes_work: bool = True
    """False from the moment that the process is told to stop: open jobs are left to the next one."""
