"""The authority of the API server's certificate is rotated: requests and watches go on without a restart."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hack.control_plane.certificates import Authority
from hack.control_plane.kubeconfig import current_context, write_private
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until
from tests.support.tls_proxy import BlockingTlsProxy, bundle

GOES_ON_WITHIN_S = 90


@pytest.fixture
def old(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "old")


@pytest.fixture
def proxy(system: System, old: Authority) -> Iterator[BlockingTlsProxy]:
    with BlockingTlsProxy(current_context(system.kubeconfig).cluster["server"], old) as made:
        yield made


def use_proxy(system: System, proxy: BlockingTlsProxy, trusted: Path) -> None:
    content = yaml.safe_load(system.kubeconfig.read_text())
    content["clusters"][0]["cluster"] = {"server": proxy.url, "certificate-authority": str(trusted)}
    system.kubeconfig = system.folder / "through-the-proxy.kubeconfig"
    write_private(system.kubeconfig, yaml.safe_dump(content))


@pytest.mark.timeout(500)
def test_after_a_rotation_of_the_authority_jobs_are_created_and_watched_without_a_restart(
    system: System, gemini: FakeGemini, proxy: BlockingTlsProxy, old: Authority, tmp_path: Path
) -> None:
    trusted, new = bundle(tmp_path / "ca.crt", old), Authority(tmp_path / "new")
    use_proxy(system, proxy, trusted)
    system.book.add(3)
    operator = system.start_with_gemini(gemini)
    system.wait_until_fresh()

    proxy.restart_with(new)
    system.book.add(3, prefix="While the certificate is refused")
    wait_until(
        lambda: "Certificate" in operator.page_or_error("/readyz")[1],
        within_s=90,
        every_s=0.5,
        because="its authority is not trusted yet",
    )
    bundle(trusted, old, new)
    system.wait_until_fresh(within_s=GOES_ON_WITHIN_S)
    wait_until(
        lambda: operator.page_or_error("/readyz")[1] == "ok\n", within_s=60, every_s=0.5, because="it is trusted"
    )

    bundle(trusted, new)
    system.book.add(3, prefix="After the rotation")
    system.wait_until_fresh(within_s=GOES_ON_WITHIN_S)
    assert operator.is_running()
