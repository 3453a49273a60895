"""One JSON object per line on stderr, and no content of a row in any of them."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import structlog

from embedding_operator.logs import set_up_logs, traceback_without_content
from embedding_operator.settings import settings_from

QUOTED = "invalid input syntax: 'Bakery at the corner'"
QUIET = ("kopf", "asyncio", "psycopg", "psycopg.pool")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """The logging of the test run is as it was after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    levels = {name: logging.getLogger(name).level for name in QUIET}
    yield
    structlog.reset_defaults()
    root.handlers = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def set_up(log_format: str = "json", **environ: str) -> None:
    """Called in the test itself: its stderr is not that of its fixtures."""
    url = "postgresql://operator@database/app"
    set_up_logs(settings_from({"DATABASE_URL": url, "EMBEDDING_LOG_FORMAT": log_format, **environ}, providers={}))


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def raised(error: Exception, *, cause: Exception | None = None) -> tuple[type[Exception], Exception, Any]:
    try:
        raise error from cause
    except Exception as exc:
        return type(exc), exc, exc.__traceback__


def test_an_event_is_one_json_object_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    set_up()
    structlog.get_logger("any").info("source ready", source="businesses", rows=3)
    (line,) = written(capsys)
    assert (line["event"], line["level"], line["source"], line["rows"]) == ("source ready", "info", "businesses", 3)
    assert line["timestamp"].endswith("Z")


def test_text_in_any_script_is_written_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    set_up()
    structlog.get_logger("any").info("source ready", source="wörter-书")
    assert "wörter-书" in capsys.readouterr().err


def test_a_record_of_a_library_has_the_same_format(capsys: pytest.CaptureFixture[str]) -> None:
    set_up()
    logging.getLogger("aiohttp").warning("closed %s", "early")
    (line,) = written(capsys)
    assert (line["event"], line["level"]) == ("closed early", "warning")


def test_the_console_format_is_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("console")
    structlog.get_logger("console").info("source ready", source="businesses")
    line = capsys.readouterr().err
    assert "source ready" in line
    assert not line.startswith("{")


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("json", EMBEDDING_LOG_LEVEL="warning")
    logging.getLogger("any").info("left out")
    logging.getLogger("any").warning("written")
    assert [line["event"] for line in written(capsys)] == ["written"]


@pytest.mark.parametrize("name", ["kopf.objects", "asyncio"])
def test_steps_of_kopf_are_left_out_whatever_the_level(capsys: pytest.CaptureFixture[str], name: str) -> None:
    set_up("json", EMBEDDING_LOG_LEVEL="debug")
    logging.getLogger(name).info("Handler 'embed' succeeded.")
    assert written(capsys) == []


def test_failed_connections_of_the_pool_are_left_out_because_they_quote_the_url(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up(EMBEDDING_LOG_LEVEL="debug")
    logging.getLogger("psycopg.pool").warning("error connecting: part-of-a-password")
    logging.getLogger("psycopg").debug("connection attempt: host: 'part-of-a-password'")
    assert written(capsys) == []


def test_a_logged_exception_has_its_kinds_and_places_and_no_quoted_row(capsys: pytest.CaptureFixture[str]) -> None:
    set_up()
    try:
        raise RuntimeError("no vector") from psycopg.DataError(QUOTED)
    except RuntimeError:
        structlog.get_logger("any").exception("row not embedded")
    (line,) = written(capsys)
    assert "builtins.RuntimeError: no vector" in line["exception"]
    assert "psycopg.DataError" in line["exception"]
    assert QUOTED not in line["exception"]


@pytest.mark.parametrize("error", [psycopg.DataError(QUOTED), psycopg.errors.CheckViolation(QUOTED)])
def test_the_message_of_an_error_of_the_database_is_never_shown(error: Exception) -> None:
    assert QUOTED not in traceback_without_content(raised(error))


def test_a_traceback_names_the_file_and_the_function_of_each_frame_and_no_local_variable() -> None:
    secret = "s3cr3t"
    shown = traceback_without_content(raised(ValueError("wrong")))
    assert shown.splitlines()[0] == "builtins.ValueError: wrong"
    assert "test_logs.py" in shown
    assert shown.endswith(" raised")
    assert secret not in shown


def test_the_cause_of_an_error_is_part_of_its_traceback() -> None:
    shown = traceback_without_content(raised(ValueError("second"), cause=KeyError("first")))
    assert "builtins.ValueError: second" in shown
    assert "builtins.KeyError: 'first'" in shown


def test_a_context_that_was_suppressed_is_left_out() -> None:
    def translate() -> None:
        try:
            raise KeyError("hidden")
        except KeyError:
            raise ValueError("shown") from None

    try:
        translate()
    except ValueError as exc:
        shown = traceback_without_content((type(exc), exc, exc.__traceback__))
    assert "hidden" not in shown
