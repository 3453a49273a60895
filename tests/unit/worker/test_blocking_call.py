"""A blocking call runs in a thread of its own, and is aborted with its task, and never after its end."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from embedding_worker.providers.blocking_call import BlockingCall, present_call
from tests.support.deadline import eventually

NAME = "blocking-call-of-a-test"
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of a connection."""
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


async def test_the_result_comes_from_a_thread_that_knows_its_call() -> None:
    call = BlockingCall(NAME)
    assert await call.run(lambda: (present_call(), threading.current_thread().name)) == (call, NAME)
    await eventually(lambda: not threads(), within_s=30, because="the call has ended")


async def test_an_error_is_raised_in_the_task() -> None:
    def fails() -> None:
        raise KeyError("one")

    with pytest.raises(KeyError, match="one"):
        await BlockingCall(NAME).run(fails)


async def test_a_thread_that_waits_for_the_other_end_ends_with_its_task(pair: Pair) -> None:
    here, _ = pair
    call, waits = BlockingCall(NAME), threading.Event()

    def receives() -> bytes:
        call.use(here.fileno())
        waits.set()
        return here.recv(1)

    task = asyncio.create_task(call.run(receives))
    await eventually(waits.is_set, within_s=30, because="the thread has begun")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not threads(), within_s=30, because="its connection was shut down")


async def test_a_call_that_was_aborted_before_it_has_a_connection_does_not_use_one(pair: Pair) -> None:
    here, there = pair
    call = BlockingCall(NAME)
    call.abort()
    with pytest.raises(ConnectionAbortedError):
        await call.run(lambda: call.use(here.fileno()))
    here.sendall(b"1")
    assert there.recv(1) == b"1"


@pytest.mark.parametrize("how", ["released", "ended"])
async def test_a_connection_that_the_call_no_longer_uses_is_not_shut_down(pair: Pair, how: str) -> None:
    here, there = pair
    call = BlockingCall(NAME)
    if how == "released":
        call.use(here.fileno())
        call.release()
    else:
        await call.run(lambda: call.use(here.fileno()))
    call.abort()
    here.sendall(b"1")
    assert there.recv(1) == b"1"


async def test_only_the_last_of_several_connections_is_shut_down(pair: Pair) -> None:
    here, there = pair
    first, second = socket.socketpair()
    with first, second:
        call = BlockingCall(NAME)
        call.use(first.fileno())
        call.use(here.fileno())
        call.abort()
        first.sendall(b"1")
        assert (second.recv(1), there.recv(1)) == (b"1", b"")
        call.release()


async def test_the_other_end_sees_the_end_of_a_connection_that_was_closed_while_it_was_used(pair: Pair) -> None:
    here, there = pair
    call = BlockingCall(NAME)
    await call.run(lambda: call.use(here.fileno()))
    here.close()
    assert there.recv(1) == b""
