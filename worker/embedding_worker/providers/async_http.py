"""Imports what an asynchronous HTTP client needs. Called by `import_sdk` of the providers whose SDKs use httpx or httpx2."""

from typing import Any


def import_all_of(client_class: Any) -> None:
    """Import what httpx imports only for its first client, and anyio in its first event loop. Sends nothing.

    The environment is ignored: a proxy or a certificate that cannot be used is an error of the calls.
    """
    import anyio

    async def open_and_close() -> None:
        async with client_class(trust_env=False):
            pass

    anyio.run(open_and_close)
