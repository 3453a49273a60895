"""The page's server answers only who was given its address, and only a browser that shows the page itself."""

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from kubectl_embeddings.ui.server import FOLDER, Addresses, page_server


@pytest.fixture
async def addresses() -> AsyncIterator[Addresses]:
    async def state(source: str) -> dict[str, Any]:
        return {"of": source}

    async with page_server(state, port=0) as found:
        yield found


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as found:
        yield found


async def status(session: aiohttp.ClientSession, url: str, *, method: str = "GET", host: str | None = None) -> int:
    headers = {} if host is None else {"Host": host}
    async with session.request(method, url, headers=headers, allow_redirects=False) as response:
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; ")
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in response.headers
        return response.status


async def test_only_this_machine_can_reach_it(addresses: Addresses) -> None:
    assert urlsplit(addresses.page).hostname == "127.0.0.1"


async def test_each_start_has_an_address_of_its_own() -> None:
    async def state(_: str) -> dict[str, Any]:
        return {}

    async with page_server(state, port=0) as one, page_server(state, port=0) as other:
        assert len(urlsplit(one.page).path) > 30
        assert urlsplit(one.page).path != urlsplit(other.page).path


@pytest.mark.parametrize("path", ["", "page.js", "page.css", "uPlot.iife.min.js", "state", "state?source=shops/a"])
async def test_the_page_is_served_at_its_address(
    path: str, addresses: Addresses, session: aiohttp.ClientSession
) -> None:
    assert await status(session, addresses.page + path) == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/state", "/page.js", "/x/", "/x/state", "/once/x", "/{token}", "/{token}/x", "/{token}/..%2fserver.py"],
)
async def test_nothing_is_served_elsewhere(path: str, addresses: Addresses, session: aiohttp.ClientSession) -> None:
    parts = urlsplit(addresses.page)
    url = f"http://{parts.netloc}{path.format(token=parts.path.strip('/'))}"
    assert await status(session, url) == 404


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["", "state"])
async def test_only_get_is_allowed(
    method: str, path: str, addresses: Addresses, session: aiohttp.ClientSession
) -> None:
    assert await status(session, addresses.page + path, method=method) == 405


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("127.0.0.1:9999", 200),
        ("evil.example:{port}", 403),
        ("127.0.0.1.evil.example:{port}", 403),
        ("evil.example", 403),
        ("localhost@evil.example:{port}", 403),
        ("", 403),
    ],
)
async def test_a_name_that_somebody_points_to_this_machine_is_refused(
    host: str, expected: int, addresses: Addresses, session: aiohttp.ClientSession
) -> None:
    named = host.format(port=urlsplit(addresses.page).port)
    assert await status(session, f"{addresses.page}state", host=named) == expected


async def test_the_address_for_the_browser_leads_to_the_page_once(
    addresses: Addresses, session: aiohttp.ClientSession
) -> None:
    async with session.get(addresses.once) as response:
        assert str(response.url) == addresses.page
    assert await status(session, addresses.once) == 404
    assert urlsplit(addresses.page).path.strip("/") not in addresses.once


async def test_the_state_is_that_of_the_source_asked_for(addresses: Addresses, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{addresses.page}state", params={"source": "shops/a b"}) as response:
        assert await response.json() == {"of": "shops/a b"}


async def test_a_port_in_use_is_an_error(addresses: Addresses) -> None:
    async def state(_: str) -> dict[str, Any]:
        return {}

    with pytest.raises(OSError, match="in use"):
        async with page_server(state, port=urlsplit(addresses.page).port or 0):
            pass


def test_the_page_loads_files_of_its_own_only_and_has_no_script_or_style_inline() -> None:
    text = (FOLDER / "index.html").read_text()
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert {name for name in loaded if not (FOLDER / name).is_file()} == set()
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", text)


def test_the_scripts_write_no_markup() -> None:
    ours = "".join((FOLDER / name).read_text() for name in ("page.js", "draw.js", "curves.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", ours)


def test_the_chart_library_has_its_licence_beside_it() -> None:
    assert (FOLDER / "uPlot.LICENSE").read_text().startswith("The MIT License")
