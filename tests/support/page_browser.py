"""A headless Chromium that shows pages, and the page of `kubectl embeddings ui` about a stand. Called by its tests."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from hack.browser.chromium import browser
from kubectl_embeddings.ui.server import page_server
from tests.support.page_stand import Stand

WITHIN_MS = 20_000
LOOK_AGAIN = "document.dispatchEvent(new Event('visibilitychange'))"
"""As if the tab had become visible, so that a test does not wait for the next look."""


class Pages:
    """Pages in one browser, each in a context of its own, and what went wrong in them."""

    def __init__(self, chromium: Browser) -> None:
        self._chromium = chromium
        self.problems: list[str] = []
        """Errors of scripts, and what the Content-Security-Policy refused."""
        self.requested: set[str] = set()

    @contextmanager
    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Page]:
        """The page, after it has shown its first answer."""
        context = self._chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            timezone_id="UTC",
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.set_default_timeout(WITHIN_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: self.requested.add(request.url))
        try:
            page.goto(url)
            expect(page.locator("#updated")).not_to_have_text("Reading …", timeout=WITHIN_MS)
            yield page
        finally:
            context.close()


@contextmanager
def headless_chromium() -> Iterator[Pages]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(**browser().launch_options)
        try:
            yield Pages(chromium)
        finally:
            chromium.close()


class ServedStand:
    """A stand with its page, on an event loop in a thread, because playwright's own loop runs in this one."""

    def __init__(self, stand: Stand, address: str, loop: asyncio.AbstractEventLoop) -> None:
        self.stand = stand
        self.address = address
        self._loop = loop

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)

    def pass_time(self, seconds: float) -> None:
        self.run(self.stand.clock.advance(seconds))


@contextmanager
def served(making: Coroutine[Any, Any, Stand]) -> Iterator[ServedStand]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=60)

    try:
        stand = run(making)
        server = page_server(stand.poll.state, port=0)
        addresses = run(server.__aenter__())
        try:
            yield ServedStand(stand, addresses.page, loop)
        finally:
            run(stand.poll.close())
            run(server.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=60)
        loop.close()
