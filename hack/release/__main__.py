"""`python3 -m hack.release v1.2.3` prints `version=1.2.3` where the tag, the chart and the package agree.

Called by the release workflow before anything is installed: it needs Python's own library only.
"""

import sys

from hack.release.versions import declared_versions, disagreement

why_not = disagreement(sys.argv[1], declared_versions())
if why_not is not None:
    sys.exit(f"hack.release: {why_not}")
print(f"version={sys.argv[1].removeprefix('v')}")
