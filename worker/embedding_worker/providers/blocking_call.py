"""Runs a blocking call of an SDK in a thread of its own, and aborts it when its task is cancelled or its deadline has passed.

Called by the providers whose SDK blocks. Threads are not pooled: a thread that nothing can abort, such as one that waits for
DNS, occupies no place of another call, and ends by itself when its system call does. Knows no SDK and no HTTP.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")
_present = threading.local()


class BlockingCall:
    """One call, which sends at most one request. `reached` and `answer` say how far it got, also while it runs."""

    def __init__(self, name: str) -> None:
        """`name` becomes the name of the thread."""
        self.reached = False
        """Whether a connection was established, so that the request was sent, or may have been."""
        self.answer: bytes | None = None
        """The whole answer, once it was received."""
        self.most_bytes = 1_000_000
        """How long the answer may be."""
        self._name = name
        self._lock = threading.Lock()
        self._aborted = False
        self._socket: socket.socket | None = None

    async def run(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, which runs in a thread. A cancelled task ends at once: what `work` still does is dropped."""
        done: Future[Result] = Future()
        threading.Thread(target=self._work, args=(work, done), name=self._name, daemon=True).start()
        try:
            return await asyncio.wrap_future(done)
        finally:
            self.abort()

    def abort(self) -> None:
        """End the call by shutting its connection down, from any thread. Does nothing after its end."""
        with self._lock:
            self._aborted = True
            if self._socket is not None:
                with suppress(OSError):  # the server has closed it
                    self._socket.shutdown(socket.SHUT_RDWR)

    def use(self, descriptor: int) -> None:
        """The call is about to use the socket of this descriptor. Raises ConnectionAbortedError if the call was aborted.

        A duplicate is shut down, because the original may be wrapped in TLS, closed, or used by the next call by then.
        """
        with self._lock:
            if self._aborted:
                raise ConnectionAbortedError("the call was aborted")
            self._close()
            self._socket = socket.socket(fileno=os.dup(descriptor))

    def release(self) -> None:
        """The call no longer uses its socket."""
        with self._lock:
            self._close()

    def _work(self, work: Callable[[], Result], done: Future[Result]) -> None:
        if not done.set_running_or_notify_cancel():
            return
        _present.call = self
        try:
            result = work()
        except BaseException as exc:  # it is raised in the task
            self.release()
            done.set_exception(exc)
        else:
            self.release()
            done.set_result(result)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def present_call() -> BlockingCall:
    """The call that the present thread was started for. Raises AttributeError in another thread."""
    call: BlockingCall = _present.call
    return call
