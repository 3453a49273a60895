"""Where the repository's own files are. Called by everything in `hack` and by the tests that read these files."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
CRDS = ROOT / "crds"
CHART = ROOT / "charts" / "embedding-operator"
RULES = CHART / "files" / "rules.yaml"
"""The rights of the operator in its namespace."""
SERVE_RULES = CHART / "files" / "serve-rules.yaml"
"""Those of `embedding-operator serve`."""
EXAMPLES = ROOT / "docs" / "examples"
RUN = ROOT / ".run"
"""What is kept of running clusters and demos; git ignores it."""
