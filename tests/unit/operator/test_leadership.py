"""Who leads: one process holds the Lease and renews it, the others stand by, and nobody works without it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from embedding_operator.api_errors import AlreadyExists, ApiServerUnavailable, RequestRefused
from embedding_operator.leadership import RENEW_AGAIN_AFTER_S, RENEW_EVERY_S, Leadership
from embedding_operator.lifecycle.lease import DURATION_S, LEASE, MARGIN_S, expires_in_s, held_by, parse_lease, released
from embedding_operator.tasks import cancel_and_wait
from tests.support.fake_api_server import FakeApiServer
from tests.support.fake_clock import START, FakeClock, settle

AWAY = ApiServerUnavailable("the API server is away")


class Release:
    """The processes of a release, by the names of their pods."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.server = FakeApiServer()
        self.server.clock = self.clock
        self.said: list[bool] = []
        """What the processes have said, in this order: that one leads, or no longer does."""

    def process(self, name: str) -> Leadership:
        return Leadership(self.server, identity=name, clock=self.clock, changed=self.said.append)

    @asynccontextmanager
    async def acquiring(self, process: Leadership) -> AsyncIterator["asyncio.Task[None]"]:
        task = asyncio.create_task(process.acquire())
        await settle()
        try:
            yield task
        finally:
            await cancel_and_wait(task)

    @asynccontextmanager
    async def leading(self, name: str) -> AsyncIterator[Leadership]:
        process = self.process(name)
        await asyncio.wait_for(process.acquire(), 60)
        renewing = asyncio.create_task(process.run())
        try:
            yield process
        finally:
            await cancel_and_wait(renewing)

    def holder(self) -> str:
        assert self.server.stored_lease is not None
        return str(self.server.stored_lease["spec"]["holderIdentity"])


@pytest.fixture
def release() -> Release:
    return Release()


async def test_the_first_process_creates_the_lease_and_renews_it(release: Release) -> None:
    async with release.leading("a") as process:
        renewed = [release.server.stored_lease]
        for _ in range(3):
            await release.clock.advance(10)
            renewed.append(release.server.stored_lease)
            assert process.may_start()
    assert release.holder() == "a"
    assert len({str(lease) for lease in renewed}) == 4


async def test_a_standby_takes_over_when_the_lease_was_not_renewed_for_its_duration(release: Release) -> None:
    async with release.leading("a"):
        pass
    standby = release.process("b")
    async with release.acquiring(standby) as acquiring:
        await release.clock.advance(DURATION_S - 1)
        assert not acquiring.done()
        assert not standby.may_start()
        await release.clock.advance(2)
        assert acquiring.done()
    assert (release.holder(), standby.may_start()) == ("b", True)
    assert release.server.stored_lease is not None
    assert release.server.stored_lease["spec"]["leaseTransitions"] == 1


async def test_a_standby_waits_while_the_leader_renews_and_sends_few_requests(release: Release) -> None:
    async with release.leading("a"), release.acquiring(release.process("b")) as acquiring:
        release.server.requests.clear()
        await release.clock.advance(600)
        assert not acquiring.done()
    of_the_standby = [request for request in release.server.requests if request[0] != "put_lease"]
    assert 10 <= len(of_the_standby) <= 50


async def test_a_released_lease_is_taken_at_once(release: Release) -> None:
    async with release.leading("a") as leader, release.acquiring(release.process("b")) as acquiring:
        await release.clock.advance(30)
        assert not acquiring.done()
        await leader.release()
        assert not leader.may_start()
        await settle()
        assert acquiring.done()
    assert release.holder() == "b"


async def test_a_container_that_is_started_again_in_its_pod_leads_at_once(release: Release) -> None:
    async with release.leading("a"):
        pass
    async with release.leading("a") as again:
        assert again.may_start()


async def test_a_leader_that_cannot_renew_starts_no_work_before_others_may_take_the_lease(release: Release) -> None:
    async with release.leading("a") as leader:
        await release.clock.advance(30)
        release.server.fail("put_lease", *[AWAY] * 100)
        release.server.fail("lease", *[AWAY] * 100)
        await release.clock.advance(DURATION_S - MARGIN_S - 4)
        assert leader.may_start()
        await release.clock.advance(4)
        assert not leader.may_start()
        assert leader.problem is not None
        release.server.lift()
        await release.clock.advance(2)
        assert leader.may_start()
        assert not leader.lost.is_set()


async def test_a_leader_whose_renewal_is_not_answered_says_in_time_that_it_does_not_lead(release: Release) -> None:
    async with release.leading("a") as leader:
        await release.clock.advance(30)
        answer = release.server.hold("put_lease")
        await release.clock.advance(DURATION_S - MARGIN_S)  # counted from the last renewal, which was before
        assert (leader.may_start(), release.said) == (False, [True, False])
        answer.set()  # to a request that is too old to lead by
        await release.clock.advance(RENEW_AGAIN_AFTER_S)
        assert (leader.may_start(), release.said) == (True, [True, False, True])


async def test_a_leader_whose_lease_was_taken_is_lost(release: Release) -> None:
    async with release.leading("a") as leader:
        await release.clock.advance(5)
        present = release.server.stored_lease
        assert present is not None
        taken = held_by("b", parse_lease(present), START)
        await release.server.put_lease(LEASE, taken, version=present["metadata"]["resourceVersion"])
        await release.clock.advance(5)
        assert (leader.lost.is_set(), leader.may_start(), release.holder()) == (True, False, "b")


async def test_of_two_processes_that_try_at_once_one_leads(release: Release) -> None:
    first, second = release.process("a"), release.process("b")
    async with release.acquiring(first) as one, release.acquiring(second) as two:
        await release.clock.advance(5)
        assert [one.done(), two.done()].count(True) == 1
        assert [first.may_start(), second.may_start()].count(True) == 1


async def test_a_lost_answer_to_a_renewal_is_no_loss(release: Release) -> None:
    async with release.leading("a") as leader:
        release.server.lose_answers("put_lease", AWAY)
        await release.clock.advance(20)
        assert (leader.may_start(), leader.lost.is_set()) == (True, False)


async def test_a_missing_right_is_a_problem_that_is_shown_and_tried_again(release: Release) -> None:
    release.server.fail("lease", AlreadyExists("no"), AWAY)
    process = release.process("a")
    async with release.acquiring(process) as acquiring:
        await release.clock.advance(2)
        assert process.problem is not None
        assert LEASE in process.problem
        await release.clock.advance(4)
        assert acquiring.done()


async def test_a_standby_whose_watch_dies_silently_sends_few_requests_too(release: Release) -> None:
    release.server.hold("watch_lease")
    async with release.leading("a"), release.acquiring(release.process("b")) as acquiring:
        release.server.requests.clear()
        await release.clock.advance(600)
        assert not acquiring.done()
    of_the_leader = 600 / RENEW_EVERY_S
    assert len(release.server.requests) - of_the_leader <= 50


async def test_after_an_outage_a_standby_gives_the_leader_time_to_renew_the_lease(release: Release) -> None:
    async with release.leading("a"):
        pass
    async with release.acquiring(release.process("b")) as acquiring:
        for method in ("put_lease", "lease", "watch_lease"):
            release.server.fail(method, *[AWAY] * 1_000)
        release.server.end_watches()
        await release.clock.advance(60)
        release.server.lift()
        await release.clock.advance(DURATION_S - 3)
        assert not acquiring.done()
        await release.clock.advance(5)
        assert acquiring.done()


async def test_a_standby_whose_watch_hangs_gives_the_leader_time_after_an_outage_too(release: Release) -> None:
    async with release.leading("a"):
        pass
    release.server.hold("watch_lease")
    async with release.acquiring(release.process("b")) as acquiring:
        release.server.fail("lease", *[AWAY] * 1_000)
        await release.clock.advance(40)
        release.server.lift()
        await release.clock.advance(DURATION_S - 5)
        assert not acquiring.done()
        await release.clock.advance(10)
        assert acquiring.done()


async def test_a_standby_whose_watches_are_broken_off_early_takes_over_all_the_same(release: Release) -> None:
    """As by a load balancer that closes connections on which nothing was sent for ten seconds."""
    async with release.leading("a"):
        pass
    async with release.acquiring(release.process("b")) as acquiring:
        for _ in range(3):
            await release.clock.advance(8)
            release.server.fail("watch_lease", AWAY)
            release.server.end_watches()
            await settle()
        assert acquiring.done()


@pytest.mark.parametrize("method", ["lease", "put_lease", "watch_lease"])
async def test_an_unexpected_error_leaves_no_release_without_a_leader(release: Release, method: str) -> None:
    release.server.fail(method, ValueError("a defect"))  # type: ignore[arg-type]
    process = release.process("a")
    async with release.acquiring(process) as acquiring:
        await release.clock.advance(10)
        assert acquiring.done()
        renewing = asyncio.create_task(process.run())
        release.server.fail(method, ValueError("a defect"))  # type: ignore[arg-type]
        await release.clock.advance(30)
        assert process.may_start()
        await cancel_and_wait(renewing)


async def test_a_missing_right_to_write_it_is_tried_again_every_two_seconds(release: Release) -> None:
    release.server.fail("put_lease", *[RequestRefused("not allowed")] * 10_000)
    process = release.process("a")
    async with release.acquiring(process):
        await release.clock.advance(60)
        assert process.problem is not None
        assert "not allowed" in process.problem
    assert 20 <= release.server.count("put_lease") <= 31


async def test_a_leader_notices_that_another_one_has_led_and_ended_meanwhile(release: Release) -> None:
    async with release.leading("a") as leader:
        await release.clock.advance(5)
        for spec in (held_by, lambda _, before, now: released(before, now)):
            present = release.server.stored_lease
            assert present is not None
            version = present["metadata"]["resourceVersion"]
            await release.server.put_lease(LEASE, spec("b", parse_lease(present), START), version=version)
        await release.clock.advance(5)
        assert (leader.lost.is_set(), leader.may_start()) == (True, False)


async def test_a_lease_is_released_also_where_the_last_renewal_was_not_answered(release: Release) -> None:
    async with release.leading("a") as leader:
        await release.clock.advance(5)
        present = release.server.stored_lease
        assert present is not None
        await release.server.put_lease(LEASE, present["spec"], version=present["metadata"]["resourceVersion"])
        await leader.release()
    assert release.holder() == ""


async def test_only_a_process_that_leads_says_that_it_does_not_lead_any_more(release: Release) -> None:
    async with release.leading("a"):
        standby = release.process("b")
        async with release.acquiring(standby):
            pass
        await standby.release()
        assert release.said == [True]
        assert release.holder() == "a"


@pytest.mark.parametrize(
    ("holder", "unchanged_for_s", "left_s"),
    [(None, 0, 0.0), ("", 0, 0.0), ("me", 0, 0.0), ("other", 0, 15.0), ("other", 14, 1.0), ("other", 100, 0.0)],
)
def test_a_lease_may_be_taken_when_it_is_free_ones_own_or_expired(
    holder: str | None, unchanged_for_s: float, left_s: float
) -> None:
    lease = None
    if holder is not None:
        spec = held_by(holder, None, START)
        lease = parse_lease({"metadata": {"resourceVersion": "1"}, "spec": spec})
    assert expires_in_s(lease, "me", unchanged_for_s=unchanged_for_s) == left_s


def test_the_times_of_a_lease_are_as_other_tools_read_them() -> None:
    lease = parse_lease({"metadata": {"resourceVersion": "7"}, "spec": held_by("a", None, START)})
    assert lease.renewed == lease.acquired == "2026-03-01T12:00:00.000000Z"
    assert released(lease, START)["holderIdentity"] == ""
    again = held_by("b", lease, START)
    assert (again["leaseTransitions"], again["holderIdentity"]) == (1, "b")
    assert parse_lease({"metadata": {"resourceVersion": "8"}}).holder == ""


def test_a_lease_that_somebody_has_written_holds_no_process_up_for_long() -> None:
    spec = held_by("other", None, START) | {"leaseDurationSeconds": 100_000}
    assert (
        expires_in_s(parse_lease({"metadata": {"resourceVersion": "1"}, "spec": spec}), "me", unchanged_for_s=0) == 60
    )
