"""The event loop of the simulation: time passes only where no task can run, and then at once."""

import asyncio
import time
from datetime import timedelta

import pytest

from hack.simulation.virtual_time import START, NothingScheduled, VirtualClock, run_in_virtual_time

DAY_S = 86_400.0


def test_a_day_of_sleeps_takes_less_than_one_of_them_would() -> None:
    async def a_day() -> float:
        clock = VirtualClock()
        for _ in range(1_440):
            await clock.sleep(60)
        return clock.monotonic()

    began = time.monotonic()
    assert run_in_virtual_time(a_day()) == pytest.approx(DAY_S)
    assert time.monotonic() - began < 30


def test_sleepers_wake_in_the_order_of_their_times_each_at_its_own() -> None:
    woken: list[tuple[int, float]] = []

    async def sleeper(seconds: int, clock: VirtualClock) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    async def all_of_them() -> None:
        clock, times = VirtualClock(), [n * 27 % 50 for n in range(1, 50)]
        await asyncio.gather(*(sleeper(seconds, clock) for seconds in times))

    run_in_virtual_time(all_of_them())
    assert [seconds for seconds, _ in woken] == [*range(1, 50)]
    assert [at for _, at in woken] == pytest.approx([*range(1, 50)])


def test_a_task_that_can_run_runs_before_time_passes() -> None:
    async def turns() -> float:
        clock = VirtualClock()
        sleeper = asyncio.create_task(clock.sleep(1))
        for _ in range(1_000):
            await asyncio.sleep(0)
        before = clock.monotonic()
        await sleeper
        return before

    assert run_in_virtual_time(turns()) == 0


def test_the_clock_on_the_wall_moves_with_the_loop() -> None:
    async def an_hour() -> timedelta:
        clock = VirtualClock()
        await clock.sleep(3_600)
        return clock.now() - START

    assert run_in_virtual_time(an_hour()) == timedelta(hours=1)


@pytest.mark.parametrize(("set_after_s", "happened", "at_s"), [(2, True, 2), (7, False, 5)])
def test_an_event_is_waited_for_until_it_is_set_or_the_time_is_over(
    set_after_s: float, happened: bool, at_s: float
) -> None:
    async def waiting() -> tuple[bool, float]:
        clock, event = VirtualClock(), asyncio.Event()
        asyncio.get_running_loop().call_later(set_after_s, event.set)
        return await clock.wait_for(event, within_s=5), clock.monotonic()

    assert run_in_virtual_time(waiting()) == (happened, at_s)


def test_tasks_that_wait_for_each_other_only_are_an_error_and_not_a_hang() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingScheduled):
        run_in_virtual_time(never())
