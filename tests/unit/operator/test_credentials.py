"""The credentials for the API server are read again when their files change, and a plugin is run no more than necessary."""

import ssl
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from embedding_operator.api_access import credentials as module
from embedding_operator.api_access.access import Access, AccessRefused, ClientCertificate, ExecPlugin
from embedding_operator.api_access.credentials import Credentials, tls_context
from embedding_operator.api_access.exec_plugin import ExecCredential
from hack.control_plane.certificates import Authority
from tests.support.fake_clock import FakeClock
from tests.support.kubeconfigs import SERVER

PLUGIN = ExecPlugin("login", (), (), "client.authentication.k8s.io/v1", None, Path())


class Files:
    """What the files say; `problem` is raised instead where it is set."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.problem: str | None = None
        self.reads = 0

    def read(self) -> Access:
        self.reads += 1
        if self.problem is not None:
            raise AccessRefused(self.problem)
        return self.access


class Plugins:
    """What the plugin prints, run by run; an error is raised."""

    def __init__(self) -> None:
        self.results: list[ExecCredential | AccessRefused] = []
        self.runs = 0

    async def run(self, plugin: ExecPlugin) -> ExecCredential:
        self.runs += 1
        result = self.results.pop(0) if self.results else ExecCredential("Bearer later")
        if isinstance(result, AccessRefused):
            raise result
        return result


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Plugins:
    made = Plugins()
    monkeypatch.setattr(module, "run_plugin", made.run)
    return made


def authority(folder: Path, name: str) -> str:
    return Authority(folder / name).certificate.read_text()


async def test_files_are_looked_at_again_after_five_seconds(clock: FakeClock) -> None:
    files = Files(Access(SERVER, authorization="Bearer old"))
    credentials = Credentials(files.read, clock=clock)
    files.access = replace(files.access, authorization="Bearer new")
    await clock.advance(4.9)
    await credentials.refresh()
    assert credentials.authorization == "Bearer old"
    await clock.advance(0.1)
    await credentials.refresh()
    assert (credentials.authorization, files.reads) == ("Bearer new", 2)


async def test_after_a_refusal_files_are_looked_at_before_the_next_request(clock: FakeClock) -> None:
    files = Files(Access(SERVER, authorization="Bearer old"))
    credentials = Credentials(files.read, clock=clock)
    files.access = replace(files.access, authorization="Bearer new")
    credentials.refused()
    await credentials.refresh()
    assert credentials.authorization == "Bearer new"


async def test_new_connections_trust_a_new_authority_and_no_longer_the_old_one(
    clock: FakeClock, tmp_path: Path
) -> None:
    old, new = authority(tmp_path, "old"), authority(tmp_path, "new")
    files = Files(Access(SERVER, authority=old))
    credentials = Credentials(files.read, clock=clock)
    before = credentials.tls
    files.access = replace(files.access, authority=old + new)
    await clock.advance(5)
    await credentials.refresh()
    assert (len(before.get_ca_certs()), len(credentials.tls.get_ca_certs())) == (1, 2)
    files.access = replace(files.access, authority=new)
    await clock.advance(5)
    await credentials.refresh()
    assert len(credentials.tls.get_ca_certs()) == 1


async def test_a_new_token_keeps_the_connections(clock: FakeClock) -> None:
    files = Files(Access(SERVER, authorization="Bearer old"))
    credentials = Credentials(files.read, clock=clock)
    before = credentials.tls
    files.access = replace(files.access, authorization="Bearer new")
    await clock.advance(5)
    await credentials.refresh()
    assert credentials.tls is before


@pytest.mark.parametrize("problem", ["unreadable", "no authority", "another server"])
async def test_files_that_cannot_be_used_are_reported_once_and_the_old_ones_stay(
    clock: FakeClock, problem: str
) -> None:
    files = Files(Access(SERVER, authorization="Bearer old"))
    credentials = Credentials(files.read, clock=clock)
    good = files.access
    match problem:
        case "unreadable":
            files.problem = "ca.crt is empty"
        case "no authority":
            files.access = replace(good, authority="no PEM", authorization="Bearer new")
        case _:
            files.access = replace(good, host="https://192.0.2.2", authorization="Bearer new")
    with capture_logs() as logs:
        for _ in range(3):
            await clock.advance(5)
            await credentials.refresh()
    assert (credentials.access, len(logs)) == (good, 1)
    files.access, files.problem = replace(good, authorization="Bearer new"), None
    await clock.advance(5)
    await credentials.refresh()
    assert credentials.authorization == "Bearer new"


def test_a_client_certificate_needs_its_own_key(tmp_path: Path) -> None:
    issuer = Authority(tmp_path / "authority")
    one, two = issuer.issue("one"), issuer.issue("two")
    certificate = one.certificate.read_text()
    tls_context(Access(SERVER, certificate=ClientCertificate(certificate, one.key.read_text())), None)
    for key in (two.key.read_text(), "no PEM"):
        with pytest.raises(AccessRefused, match="do not belong together"):
            tls_context(Access(SERVER, certificate=ClientCertificate(certificate, key)), None)


def test_without_verification_no_certificate_is_checked() -> None:
    context = tls_context(Access(SERVER, verify=False), None)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


# Plugins


async def test_a_plugin_is_run_before_the_first_request_and_not_again(clock: FakeClock, plugins: Plugins) -> None:
    credentials = Credentials(Files(Access(SERVER, plugin=PLUGIN)).read, clock=clock)
    plugins.results = [ExecCredential("Bearer first")]
    for _ in range(3):
        await credentials.refresh()
        await clock.advance(3_600)
    assert (credentials.authorization, plugins.runs) == ("Bearer first", 1)


async def test_a_plugin_is_run_again_shortly_before_its_credentials_expire(clock: FakeClock, plugins: Plugins) -> None:
    credentials = Credentials(Files(Access(SERVER, plugin=PLUGIN)).read, clock=clock)
    plugins.results = [ExecCredential("Bearer first", expires=clock.now() + timedelta(minutes=10))]
    await credentials.refresh()
    await clock.advance(569)
    await credentials.refresh()
    assert credentials.authorization == "Bearer first"
    await clock.advance(1)
    await credentials.refresh()
    assert credentials.authorization == "Bearer later"


async def test_a_plugin_whose_token_is_refused_is_run_again_at_most_every_ten_seconds(
    clock: FakeClock, plugins: Plugins
) -> None:
    credentials = Credentials(Files(Access(SERVER, plugin=PLUGIN)).read, clock=clock)
    await credentials.refresh()
    for _ in range(20):
        credentials.refused()
        await clock.advance(1)
        await credentials.refresh()
    assert plugins.runs == 3


async def test_a_plugin_that_fails_is_tried_again_after_ten_seconds(clock: FakeClock, plugins: Plugins) -> None:
    credentials = Credentials(Files(Access(SERVER, plugin=PLUGIN)).read, clock=clock)
    plugins.results = [AccessRefused("the exec plugin 'login' has failed")]
    for _ in range(2):
        with pytest.raises(AccessRefused, match="has failed"):
            await credentials.refresh()
    assert plugins.runs == 1
    await clock.advance(10)
    await credentials.refresh()
    assert (credentials.authorization, plugins.runs) == ("Bearer later", 2)


async def test_a_certificate_of_a_plugin_is_used_for_new_connections(
    clock: FakeClock, plugins: Plugins, tmp_path: Path
) -> None:
    issued = Authority(tmp_path / "authority").issue("me")
    pair = ClientCertificate(issued.certificate.read_text(), issued.key.read_text())
    credentials = Credentials(Files(Access(SERVER, plugin=PLUGIN)).read, clock=clock)
    before = credentials.tls
    plugins.results = [ExecCredential(certificate=pair), ExecCredential("Bearer too", certificate=pair)]
    await credentials.refresh()
    with_certificate = credentials.tls
    assert with_certificate is not before
    credentials.refused()
    await clock.advance(10)
    await credentials.refresh()
    assert (credentials.tls, credentials.authorization) == (with_certificate, "Bearer too")
