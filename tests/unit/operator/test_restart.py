"""What a source's status and its Events say when another process goes on with it, which has read nothing yet."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from embedding_operator.lifecycle.source_facts import Pending
from embedding_worker.errors import DatabaseUnavailable
from tests.support.looped_source import LoopedSource
from tests.support.operator_parts import source

ROWS = 20
AUTO = {"mode": "Auto", "threshold": 10}
AWAY = DatabaseUnavailable("connection refused")
PENDING = Pending("other@8#0123abcd", rows=90, tokens=30_000)
UNKNOWN = ("Unknown", "SettingUp")


async def ran_before(pending: Pending | None = None) -> LoopedSource:
    """A source whose rows were embedded by a backfill, and whose process has ended."""
    before = LoopedSource({str(n): f"name {n}" for n in range(ROWS)}, shown=source(backfill=AUTO))
    before.setup.pending = pending
    async with before.running():
        await before.clock.advance(60)
    assert before.condition("Backfilling")[:2] == ("False", "Completed")
    return before


def events(system: LoopedSource) -> list[str]:
    return [event.reason for event in system.parts.events.emitted]


async def test_a_restart_changes_nothing_that_the_status_says_and_repeats_no_event() -> None:
    before = await ran_before()
    during: list[Any] = []
    after = before.restarted()
    after.setup.meanwhile = lambda: during.append(after.status)
    async with after.running():
        await after.clock.advance(60)
    assert during == [before.status]
    assert after.condition("Backfilling")[:2] == ("False", "Completed")
    assert events(after) == []


async def test_a_changed_spec_keeps_what_is_known_of_the_last_backfill_while_it_is_set_up() -> None:
    before = await ran_before()
    during: list[Any] = []
    after = before.restarted(source(generation=2, backfill=AUTO))
    after.setup.meanwhile = lambda: during.append(
        (after.condition("Backfilling")[:2], after.condition("ReembedRequired")[:2], after.status["backfill"])
    )
    async with after.running():
        await after.clock.advance(60)
    assert during == [(UNKNOWN, UNKNOWN, before.status["backfill"])]
    assert events(after) == ["Ready"]


async def test_a_process_that_ends_before_its_first_turn_forgets_no_backfill() -> None:
    before = await ran_before()
    short = before.restarted()
    short.loop.drain()
    async with short.running():
        await short.clock.advance(20)
    assert short.status["backfill"] == before.status["backfill"]
    assert short.condition("Backfilling")[:2] == ("False", "Completed")
    after = short.restarted()
    async with after.running():
        await after.clock.advance(60)
    assert events(short) + events(after) == []


@pytest.mark.parametrize("pending", [None, PENDING], ids=["in force", "waiting"])
async def test_a_restart_while_the_database_is_away_forgets_no_change_and_no_backfill(pending: Pending | None) -> None:
    before = await ran_before(pending)
    after = before.restarted()
    after.setup.pending, after.setup.failures = pending, [AWAY]
    kept = {field: before.status.get(field) for field in ("pendingFingerprint", "reembed", "backfill", "fingerprint")}
    async with after.running():
        assert after.condition("DatabaseReady")[0] == "False"
        assert {field: after.status.get(field) for field in kept} == kept
        assert after.condition("ReembedRequired") == before.condition("ReembedRequired")
        assert after.condition("Backfilling") == before.condition("Backfilling")
        await after.clock.advance(60)
    assert events(after) == ["DatabaseUnavailable", "Ready", "DatabaseReady"]


async def test_the_log_of_a_new_process_says_what_needs_attention_although_it_did_so_before() -> None:
    before = await ran_before(PENDING)
    after = before.restarted()
    after.setup.pending = PENDING
    with capture_logs() as logs:
        async with after.running():
            await after.clock.advance(60)
    told = [line["reason"] for line in logs if line["event"] == "source needs attention"]
    assert (told, events(after)) == (["ApprovalNeeded"], [])
