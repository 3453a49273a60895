"""Fixtures of the unit tests: programs that some of them run, built before the first test."""

from pathlib import Path

import pytest

from hack.go_build.programs import go_program
from tests.support.programs import build_beforehand


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    build_beforehand(session, {"actionlint_program": ["actionlint"]})


@pytest.fixture(scope="session")
def actionlint_program() -> Path:
    return go_program("actionlint")
