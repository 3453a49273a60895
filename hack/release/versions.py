"""The versions that the package and the chart declare, and whether a tag agrees with them.

Called by `python3 -m hack.release` and by the tests. It needs Python's own library only.
"""

import re
import tomllib
from pathlib import Path

from hack.repository import ROOT


def declared_versions(root: Path = ROOT) -> dict[str, str]:
    """Each place that declares a version → the version."""
    chart = (root / "charts" / "embedding-operator" / "Chart.yaml").read_text()
    package = tomllib.loads((root / "pyproject.toml").read_text())
    return {
        "pyproject.toml's version": package["project"]["version"],
        "Chart.yaml's version": _stated(chart, "version"),
        "Chart.yaml's appVersion": _stated(chart, "appVersion"),
    }


def disagreement(tag: str, declared: dict[str, str]) -> str | None:
    """Why this tag can't be released, in a sentence; None: it can."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", tag):
        return f"the tag {tag!r} is no version such as v1.2.3 or v1.2.3-rc.1"
    others = [f"{place} is {version}" for place, version in declared.items() if version != tag.removeprefix("v")]
    return f"the tag is {tag}, but {', '.join(others)}: tag that version, or commit this one first" if others else None


def _stated(chart: str, key: str) -> str:
    found = re.findall(rf"^{key}:\s*[\"']?([^\s\"']+)", chart, re.MULTILINE)
    return found[0] if found else "missing"
