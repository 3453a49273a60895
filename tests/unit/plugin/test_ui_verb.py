"""`kubectl embeddings ui` as it is called: its address, the browser that it opens, and the cluster that its page is about."""

import shlex
import socket
import webbrowser
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from kubectl_embeddings import app as command
from kubectl_embeddings.failures import DONE, WrongUse
from kubectl_embeddings.ui import verb
from kubectl_embeddings.ui.verb import Options, show_page
from kubectl_embeddings.user_connection import Connection
from tests.support.fake_requests import FakeRequests, Printed


class Cluster(FakeRequests):
    host = "https://kubernetes.example:6443"


async def ran(
    options: Options, monkeypatch: pytest.MonkeyPatch, *, browser_starts: bool = True
) -> tuple[Printed, list[str]]:
    """What it printed until it was interrupted, and the addresses that it opened in the browser."""
    printed, opened = Printed(), list[str]()

    async def interrupted() -> None:
        """At once."""

    def open_in_browser(address: str) -> bool:
        opened.append(address)
        return browser_starts

    monkeypatch.setattr(webbrowser, "open", open_in_browser)
    monkeypatch.setattr(verb, "_interrupted", interrupted)
    assert await show_page(Cluster(), options, printed.screen) == DONE  # type: ignore[arg-type]
    return printed, opened


async def test_the_address_is_printed_alone_on_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    printed, _ = await ran(Options(), monkeypatch)
    (address,) = printed.lines
    assert urlsplit(address).hostname == "127.0.0.1"
    assert "Ctrl-C" in printed.notes[0]


async def test_the_browser_gets_another_address_than_the_one_to_keep_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    printed, (opened,) = await ran(Options(), monkeypatch)
    assert urlsplit(opened).netloc == urlsplit(printed.lines[0]).netloc
    assert urlsplit(printed.lines[0]).path.strip("/") not in opened


async def test_no_browser_is_opened_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await ran(Options(no_browser=True), monkeypatch))[1] == []


async def test_a_browser_that_does_not_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    printed, _ = await ran(Options(), monkeypatch, browser_starts=False)
    assert printed.notes[-1] == "No browser could be started: open the address yourself"


async def test_the_port_is_the_one_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WrongUse, match=rf"^port {port} cannot be used \(.*\): name another one with --port$"):
            await ran(Options(port=port), monkeypatch)
    printed, _ = await ran(Options(port=port), monkeypatch)
    assert urlsplit(printed.lines[0]).port == port


@pytest.mark.parametrize(
    ("arguments", "all_namespaces", "given"),
    [
        ("", False, []),
        ("-A", True, []),
        ("-n shops", False, []),
        ("--context mine --kubeconfig /a/b", False, ["--context", "mine", "--kubeconfig", "/a/b"]),
    ],
)
def test_the_page_is_about_the_cluster_that_was_named(
    arguments: str, all_namespaces: bool, given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kubeconfig of the environment is that of the copied commands, too."""
    shown: dict[str, Any] = {}

    def run_verb(connection: Connection, _: object, *, all_namespaces: bool) -> None:
        shown.update(given=list(connection.commands.options), all_namespaces=all_namespaces)

    monkeypatch.setattr(verb, "run_verb", run_verb)
    done = CliRunner().invoke(command.app, ["ui", *shlex.split(arguments)], env={"KUBECONFIG": "/of/environment"})
    assert (done.exit_code, shown) == (0, {"all_namespaces": all_namespaces, "given": given})
