"""`make kind-demo` after the creation of its cluster, which works on any cluster with pods."""

from pathlib import Path

import pytest

from hack.demo import story
from hack.demo.data import businesses
from hack.demo.on_kind import play
from tests.support.installed import Release


def test_the_demo_installs_the_chart_and_shows_its_story(
    yellow_book: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cast = [each for n, each in enumerate(businesses()) if n % 10 == 0 or each.name in story.NAMED]
    play(yellow_book.pods, tmp_path, cast, "--set=crds.install=false", release="demo")
    shown = capsys.readouterr().out
    assert f"{len(cast)} rows have their embedding" in shown
    assert "Search by meaning, across languages" in shown
    assert '{"object": "list", "data": [{"object": "embedding"' in shown  # from the pod of serve
