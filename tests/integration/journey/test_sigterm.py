"""SIGTERM during each outage: the process ends with exit code 0, well within the grace period, and without a traceback."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from hack.installation.operator_process import OperatorProcess
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System
from tests.integration.journey.test_api_server_outage import api_server_of, use_proxy
from tests.support.deadline import wait_until
from tests.support.tcp_proxy import BlockingTcpProxy, DatabaseProxy

GRACE_PERIOD_S = 35


@dataclass
class Outages:
    """A system whose operator reaches database and API server through proxies, and an operator of it."""

    system: System
    gemini: FakeGemini
    api_server: BlockingTcpProxy
    database: BlockingTcpProxy
    operator: OperatorProcess | None = None

    def run(self) -> None:
        """Start an operator that has embedded some rows."""
        self.system.book.add(3)
        self.operator = self.system.start_with_gemini(self.gemini)
        self.system.wait_until_fresh()

    def begin(self, *, until: str) -> None:
        """Start an operator that waits for what is away."""
        self.operator = self.system.start_gemini_operator(self.gemini, until=until)

    def wait_for_log(self, text: str) -> None:
        operator = self.operator
        assert operator is not None
        wait_until(lambda: text in operator.log.read_text(), within_s=60, every_s=0.1, because="of the outage")


@pytest.fixture
def outages(system: System, gemini: FakeGemini) -> Iterator[Outages]:
    with ExitStack() as stack:
        api_server = stack.enter_context(BlockingTcpProxy(api_server_of(system.kubeconfig)))
        direct = DatabaseProxy(system.database_url)
        database = stack.enter_context(BlockingTcpProxy(proxy=direct))
        use_proxy(system, api_server.port)
        system.database_url = direct.url
        yield Outages(system, gemini, api_server, database)


def database_away(found: Outages) -> None:
    found.run()
    found.database.stop()
    found.wait_for_log("turn not completed")


def database_hangs(found: Outages) -> None:
    found.run()
    found.database.freeze()


def database_away_from_the_start(found: Outages) -> None:
    found.database.stop()
    found.system.book.add(3)
    found.system.apply_source()
    found.begin(until="operator ready")


def database_hangs_from_the_start(found: Outages) -> None:
    found.database.freeze()
    found.system.apply_source()
    found.begin(until="operator ready")


def api_server_away(found: Outages) -> None:
    found.run()
    found.api_server.stop()
    found.system.book.add(3)
    found.wait_for_log("turn not completed")


def api_server_hangs(found: Outages) -> None:
    found.run()
    found.api_server.freeze()
    found.system.book.add(3)


def api_server_away_from_the_start(found: Outages) -> None:
    found.api_server.stop()
    found.begin(until="waiting for the API server")


def api_server_hangs_from_the_start(found: Outages) -> None:
    found.api_server.freeze()
    found.begin(until="http server up")


def both_away(found: Outages) -> None:
    found.run()
    found.database.stop()
    found.api_server.stop()
    found.wait_for_log("turn not completed")


def both_hang(found: Outages) -> None:
    found.run()
    found.database.freeze()
    found.api_server.freeze()


def provider_hangs(found: Outages) -> None:
    found.run()
    found.gemini.fault("hang")
    found.system.book.add(3)
    wait_until(lambda: found.gemini.stats().in_flight > 0, within_s=30, every_s=0.1, because="rows are due")


def all_hang(found: Outages) -> None:
    provider_hangs(found)
    both = (found.database, found.api_server)
    for proxy in both:
        proxy.freeze()


def nothing_is_away(found: Outages) -> None:
    found.run()


@pytest.mark.parametrize(
    "outage",
    [
        nothing_is_away,
        database_away,
        database_hangs,
        database_away_from_the_start,
        database_hangs_from_the_start,
        api_server_away,
        api_server_hangs,
        api_server_away_from_the_start,
        api_server_hangs_from_the_start,
        both_away,
        both_hang,
        provider_hangs,
        all_hang,
    ],
    ids=lambda outage: outage.__name__,
)
def test_sigterm_ends_the_process_cleanly_during(outages: Outages, outage: Callable[[Outages], None]) -> None:
    outage(outages)
    assert outages.operator is not None
    exit_code = outages.operator.terminate(within_s=GRACE_PERIOD_S)
    log = outages.operator.log.read_text()
    assert exit_code == 0, log[-3_000:]
    assert "Traceback" not in log
    assert '"exception"' not in log
