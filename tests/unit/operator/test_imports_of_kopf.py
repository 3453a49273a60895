"""kopf imports whichever client of Kubernetes is installed beside it; the process of the operator needs none."""

import subprocess
import sys

AS_THE_COMMAND_DOES = """
import sys
from embedding_operator.cli.start import without_other_clients
without_other_clients()
import embedding_operator.process
print(*[name for name in sys.modules if name.startswith(("kubernetes.", "kubernetes_asyncio.", "pykube."))])
"""


def test_the_operator_starts_without_other_clients_of_kubernetes() -> None:
    command = [sys.executable, "-c", AS_THE_COMMAND_DOES]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
