"""Tasks are ended with the process, and so is a process whose threads do not end."""

import asyncio
import signal
import subprocess
import sys
import time

import pytest

from embedding_operator.tasks import unless_set

HANGING = """
import asyncio, threading, signal
from embedding_operator.tasks import end_process_after

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    guard = asyncio.create_task(end_process_after(stop, seconds=0.5))
    threading.Thread(target=threading.Event().wait).start()
    print("up", flush=True)
    await stop.wait()
    await asyncio.sleep(0)
    guard.cancel()

asyncio.run(main())
"""


async def test_work_that_ends_first_returns_its_result() -> None:
    async def work() -> int:
        return 7

    assert await unless_set(asyncio.Event(), work()) == 7


async def test_work_that_fails_first_raises_its_error() -> None:
    async def work() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await unless_set(asyncio.Event(), work())


async def test_work_that_hangs_is_cancelled_when_the_event_is_set() -> None:
    stop, ended = asyncio.Event(), asyncio.Event()

    async def work() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 7

    asyncio.get_running_loop().call_soon(stop.set)
    assert await unless_set(stop, work()) is None
    assert ended.is_set()


def test_a_process_with_a_thread_that_hangs_ends_with_exit_code_0() -> None:
    with subprocess.Popen([sys.executable, "-c", HANGING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert time.monotonic() - began >= 0.5
