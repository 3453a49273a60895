"""Imports the SDK of a provider, once, in a thread, because that takes seconds. Called before the first call of a source.

SDKs are imported one at a time, whichever sources and providers ask: where two threads import modules that need each other,
Python breaks the deadlock of its import locks by giving one of them a module that is not complete.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from embedding_worker.errors import ProviderError, SourceRefused
from embedding_worker.providers.blocking_call import BlockingCall
from embedding_worker.providers.embedder import Embedder
from embedding_worker.providers.provider import Provider, not_installed

_importing = threading.Lock()
_imported: set[tuple[Callable[[str], object], str]] = set()
"""What has imported, and which module: two providers may need different parts of one SDK."""


async def make_ready(provider: Provider, client: Embedder) -> None:
    """Import the provider's SDK, and have the client do what only its first call needs.

    Raises SourceRefused where the SDK is installed in part only, or is broken.
    """
    if provider.sdk_module and (provider.import_sdk, provider.sdk_module) not in _imported:
        await BlockingCall(f"import of {provider.sdk_module}").run(partial(_import, provider))
    if (prepare := getattr(client, "prepare", None)) is not None:
        with suppress(ProviderError):  # the call meets it again
            await prepare()


def _import(provider: Provider) -> None:
    with _importing:
        if (provider.import_sdk, provider.sdk_module) in _imported:
            return
        try:
            provider.import_sdk(provider.sdk_module)
        except Exception as exc:
            missing = f" {exc.name}" if isinstance(exc, ImportError) and exc.name else ""
            raise SourceRefused(
                "ProviderNotInstalled",
                f"{not_installed(provider)} ({provider.sdk_module} can't be imported: {type(exc).__name__}{missing})",
            ) from exc
        _imported.add((provider.import_sdk, provider.sdk_module))
