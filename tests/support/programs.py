"""Go programs built before the first test: that takes minutes, and a test may take as long as pytest's `timeout` says.

Called by the pytest_collection_finish of each conftest. It has tryfirst, because workers report their collection in this hook.
"""

from collections.abc import Callable, Mapping, Sequence

import pytest

from hack.go_build.programs import go_program


def build_beforehand(session: pytest.Session, of_fixtures: Mapping[str, Sequence[str]]) -> None:
    """Build what the fixtures of the collected tests need: a fixture's name → names of hack.go_build.programs."""
    used = fixtures_of(session)
    names = {name for fixture, programs in of_fixtures.items() if fixture in used for name in programs}
    for name in sorted(names):
        build_in_sight(session, lambda name=name: go_program(name))  # type: ignore[misc]


def fixtures_of(session: pytest.Session) -> set[str]:
    """The names of all fixtures that the collected tests use; none where nothing but the collection was asked for."""
    items = [] if session.config.option.collectonly else session.items
    return {name for item in items for name in getattr(item, "fixturenames", ())}


def build_in_sight(session: pytest.Session, build: Callable[[], object]) -> None:
    """Call `build`, and show its progress on the terminal.

    Of several workers of pytest-xdist only the first one builds. No worker gets a test before all have reported their collection.
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
