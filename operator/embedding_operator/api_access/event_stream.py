"""Watches objects of the API server: the events of one watch, for a limited time. Called by api_server.py."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from embedding_operator.api_access.session import reason_unreachable
from embedding_operator.api_errors import ApiServerUnavailable, reaction_to

ENDS_WITHIN_S = 9.0
"""The server ends a watch after the time that it was given; one that it has not ended so much later is given up."""
CHANGES = frozenset({"ADDED", "MODIFIED"})


async def watch_events(
    session: aiohttp.ClientSession, url: str, parameters: Mapping[str, str], *, within_s: float
) -> AsyncIterator[dict[str, Any]]:
    """The events, each with a `type` and an `object`, for so long. Raises ApiServerUnavailable, or what the server answers."""
    timed = {"watch": "1", "timeoutSeconds": str(round(within_s))}
    timeout = aiohttp.ClientTimeout(total=within_s + ENDS_WITHIN_S)
    try:
        async with session.get(url, params={**parameters, **timed}, timeout=timeout) as response:
            if response.status >= 300:
                raise reaction_to(response.status, await response.read(), response.headers.get("Retry-After"))
            async for line in response.content:
                yield json.loads(line)
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise ApiServerUnavailable(f"the API server cannot be reached ({reason_unreachable(exc)})") from exc
