"""Builds Go programs before the first test, because a build takes minutes, which is longer than pytest's `timeout`.

Called by pytest_collection_finish of each conftest.
"""

from collections.abc import Callable, Mapping, Sequence

import pytest

from hack.go_build.programs import go_program


def build_beforehand(session: pytest.Session, of_fixtures: Mapping[str, Sequence[str]]) -> None:
    """Build what the collected tests need. `of_fixtures`: a fixture's name → its programs in hack.go_build.programs."""
    used = fixtures_of(session)
    names = {name for fixture, programs in of_fixtures.items() if fixture in used for name in programs}
    for name in sorted(names):
        build_with_output(session, lambda name=name: go_program(name))  # type: ignore[misc]


def fixtures_of(session: pytest.Session) -> set[str]:
    """The names of all fixtures that the collected tests use; none with --collect-only."""
    items = [] if session.config.option.collectonly else session.items
    return {name for item in items for name in getattr(item, "fixturenames", ())}


def build_with_output(session: pytest.Session, build: Callable[[], object]) -> None:
    """Call `build`, and show its progress on the terminal.

    Of several workers of pytest-xdist only the first one builds: no test starts before all workers have returned from here.
    """
    workerinput = getattr(session.config, "workerinput", {"workerid": "gw0"})
    if workerinput["workerid"] != "gw0":
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        build()
    else:
        with capture.global_and_fixture_disabled():
            build()
