"""Go programs built before the first test: that takes minutes, and a test may take as long as pytest's `timeout` says."""

from collections.abc import Mapping, Sequence

import pytest

from hack.go_build.programs import go_program


def build_beforehand(session: pytest.Session, of_fixtures: Mapping[str, Sequence[str]]) -> None:
    """Build what the fixtures of the collected tests need: a fixture's name → names of hack.go_build.programs.

    Called by a conftest's pytest_collection_finish.
    """
    if session.config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    names = {name for fixture, programs in of_fixtures.items() if fixture in used for name in programs}
    capture = session.config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        _build(names)
    else:
        with capture.global_and_fixture_disabled():  # whoever waits sees how far it is
            _build(names)


def _build(names: set[str]) -> None:
    for name in sorted(names):
        go_program(name)
