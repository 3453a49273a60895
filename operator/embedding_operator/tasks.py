"""Ends a task of this process. Called by the process and by the sources; logs the error of a task that has failed."""

import asyncio
from typing import Any

import structlog

log = structlog.get_logger(__name__)


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
