"""Ends tasks of this process, and the process itself where a task does not end. Called by the process and by the sources."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)
Result = TypeVar("Result")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
NOT_ENDED_IN_TIME = "not everything has ended in time: the process ends now, and the next one continues"


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancel the task, and return when it has ended. Raises CancelledError where the caller is cancelled meanwhile."""
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if caller is not None and caller.cancelling():
            raise
    except Exception as exc:
        log.error("a task has failed", task=task.get_name(), exc_info=exc)


async def unless_set(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """What the work returns or raises; None where the event is set first, and the work is cancelled."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait(stopping)
        if not working.done():
            await cancel_and_wait(working)
    return None if working.cancelled() else working.result()


def stop_on_signals(stop: asyncio.Event) -> None:
    """Have the first SIGTERM or SIGINT set the event, and a second one end the process at once, with exit code 128 + its number.

    The handlers are Python's and not the loop's, so they also work while the loop is busy. The kernel's own reaction would not
    end a process that is the first one in its container.
    """
    loop = asyncio.get_running_loop()
    received = False

    def react(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if received or stop.is_set():
            end_at_once(number, frame)
        received = True
        loop.call_soon_threadsafe(stop.set)

    for number in SIGNALS:
        loop.remove_signal_handler(number)  # kopf's, which would still be called
        signal.signal(number, react)


def end_at_once(number: int, frame: FrameType | None) -> None:
    """A handler of signals: end the process with the exit code that shells show for this signal."""
    os._exit(128 + number)


async def end_process_after(stop: asyncio.Event, *, seconds: float, code: int = 0) -> None:
    """End the process with this exit code if it still runs so long after the event, whatever its tasks and threads wait for.

    Nothing is lost by it: the next process continues from the database and the API server, as after a failure of the node.
    """
    await stop.wait()
    timer = threading.Timer(seconds, _end_process, [code])
    timer.daemon = True  # it does not keep a process that has ended by itself
    timer.start()


def _end_process(code: int) -> None:
    log.warning(NOT_ENDED_IN_TIME)
    sys.stdout.flush()
    os._exit(code)
