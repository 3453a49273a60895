"""The operator's client with the real API server: each refusal raises the error class of the reaction that it needs."""

import socket
from pathlib import Path

import pytest

from embedding_operator.api_errors import AlreadyExists, ApiServerUnavailable, Gone, RequestRefused
from embedding_operator.api_server import ApiServer
from embedding_operator.resources import JOBS, SOURCES
from embedding_operator.resources.embedding_job import FINISHED_SELECTOR
from hack.control_plane.kubeconfig import write_kubeconfig
from tests.integration.api_server.conftest import Namespace
from tests.support.manifests import a_job, a_source
from tests.support.plain_requests import PlainRequests, settings_for

SECRET_TOKEN = "token-that-must-not-be-shown"


def names(items: list[dict[str, object]]) -> set[str]:
    return {item["metadata"]["name"] for item in items}  # type: ignore[index]


async def test_a_second_create_raises_already_exists(server: ApiServer, name: str) -> None:
    await server.create_job(a_job(name))
    with pytest.raises(AlreadyExists, match=f'"{name}" already exists'):
        await server.create_job(a_job(name))


async def shown_version(server: ApiServer, name: str) -> int:
    return int((await server.job(name))["metadata"]["resourceVersion"])


async def test_a_create_and_a_status_patch_return_the_jobs_resource_version(server: ApiServer, name: str) -> None:
    created = await server.create_job(a_job(name))
    assert created == await shown_version(server, name)
    patched = await server.patch_job_status(name, {"phase": "Retrying"})
    assert patched == await shown_version(server, name)
    assert patched > created


async def test_a_refused_create_raises_the_servers_message(server: ApiServer, name: str) -> None:
    with pytest.raises(RequestRefused, match=r"spec\.contentHash must be a SHA-256 in 64 hexadecimal digits"):
        await server.create_job(a_job(name, contentHash="none"))


async def test_a_job_that_does_not_exist_raises_gone(server: ApiServer, name: str) -> None:
    with pytest.raises(Gone, match=f'"{name}" not found'):
        await server.job(name)
    with pytest.raises(Gone):
        await server.patch_job_status(name, {"phase": "Succeeded"})
    with pytest.raises(Gone):
        await server.delete_job(name, uid="00000000-0000-0000-0000-000000000000")


async def test_a_source_that_does_not_exist_raises_gone(server: ApiServer, name: str) -> None:
    with pytest.raises(Gone):
        await server.patch_source_status(name, {"observedGeneration": 1})


async def test_a_patch_of_a_final_phase_is_refused_with_the_message_of_the_crd(server: ApiServer, name: str) -> None:
    await server.create_job(a_job(name))
    await server.patch_job_status(name, {"phase": "Succeeded"})
    with pytest.raises(RequestRefused, match="phases Succeeded and Superseded are final"):
        await server.patch_job_status(name, {"phase": "Pending"})


async def shown_uid(server: ApiServer, name: str) -> str:
    return str((await server.job(name))["metadata"]["uid"])


async def test_a_job_is_deleted_by_its_uid(server: ApiServer, name: str) -> None:
    await server.create_job(a_job(name))
    await server.delete_job(name, uid=await shown_uid(server, name))
    with pytest.raises(Gone):
        await server.job(name)


async def test_a_later_job_of_the_same_name_is_not_deleted(server: ApiServer, name: str) -> None:
    await server.create_job(a_job(name))
    first = await shown_uid(server, name)
    await server.delete_job(name, uid=first)
    await server.create_job(a_job(name))
    second = await shown_uid(server, name)
    with pytest.raises(Gone):
        await server.delete_job(name, uid=first)
    assert await shown_uid(server, name) == second


async def test_only_what_both_selectors_match_is_deleted(server: ApiServer, name: str) -> None:
    for cohort in ("one", "two"):
        for phase in ("Pending", "Retrying", "Succeeded", "Superseded", "DeadLettered"):
            job = f"{name}-{cohort}-{phase.lower()}"
            await server.create_job(a_job(job, labels={"of": name, "cohort": cohort}))
            await server.patch_job_status(job, {"phase": phase, "reason": "Tried"})
    before = names(await server.jobs())
    await server.delete_jobs(labels=f"of={name},cohort=one", fields=FINISHED_SELECTOR)
    assert before - names(await server.jobs()) == {f"{name}-one-succeeded", f"{name}-one-superseded"}


async def test_jobs_are_deleted_by_a_label_selector_alone(server: ApiServer, name: str) -> None:
    await server.create_job(a_job(f"{name}-mine", labels={"of": name}))
    await server.create_job(a_job(f"{name}-other"))
    before = names(await server.jobs())
    await server.delete_jobs(labels=f"of={name}")
    assert before - names(await server.jobs()) == {f"{name}-mine"}


async def test_a_deletion_that_matches_nothing_succeeds(server: ApiServer, name: str) -> None:
    await server.delete_jobs(labels=f"of={name}")


async def test_a_deletion_without_a_selector_is_refused(server: ApiServer) -> None:
    with pytest.raises(ValueError, match="a selector is needed"):
        await server.delete_jobs()


async def test_a_list_of_several_pages_is_complete(
    server: ApiServer, admin: PlainRequests, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {f"{name}-{number}" for number in range(5)}
    for job in made:
        await server.create_job(a_job(job))
    monkeypatch.setattr("embedding_operator.api_server.PAGE", 2)
    shown = [item["metadata"]["name"] for item in await server.jobs()]
    assert made <= set(shown)
    assert sorted(shown) == sorted(await admin.names(JOBS))


async def test_a_list_of_sources_in_several_pages_is_complete(
    server: ApiServer, admin: PlainRequests, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {f"{name}-{number}" for number in range(3)}
    for source in made:
        assert (await admin.create(SOURCES, a_source(source))).accepted
    monkeypatch.setattr("embedding_operator.api_server.PAGE", 1)
    assert made <= names(await server.sources())


async def test_a_forbidden_request_raises_the_servers_message(operator_server: ApiServer) -> None:
    operator_server.namespace = "default"
    with pytest.raises(RequestRefused, match=r"cannot list resource .* in the namespace \"default\""):
        await operator_server.jobs()


async def test_the_namespace_of_the_kubeconfig_is_the_default(namespace: Namespace) -> None:
    settings = settings_for(namespace.operator_kubeconfig, "")
    async with await ApiServer.connected(settings) as server:
        assert server.namespace == namespace.name


async def test_a_token_that_is_refused_raises_unavailable(server: ApiServer, tmp_path: Path) -> None:
    cluster = {"server": server.host, "insecure-skip-tls-verify": True}
    kubeconfig = write_kubeconfig(tmp_path / "bad", name="bad", cluster=cluster, token=SECRET_TOKEN)
    async with await ApiServer.connected(settings_for(kubeconfig, "default")) as client:
        with pytest.raises(ApiServerUnavailable, match="Unauthorized") as raised:
            await client.jobs()
    assert SECRET_TOKEN not in str(raised.value)


async def test_a_server_whose_certificate_is_not_trusted_raises_unavailable(server: ApiServer, tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "unknown", name="any", cluster={"server": server.host}, token=SECRET_TOKEN)
    async with await ApiServer.connected(settings_for(kubeconfig, "default")) as client:
        with pytest.raises(ApiServerUnavailable, match="Certificate"):
            await client.jobs()


async def test_a_server_that_does_not_listen_raises_unavailable(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and never listens
        cluster = {"server": f"https://127.0.0.1:{unused.getsockname()[1]}"}
        kubeconfig = write_kubeconfig(tmp_path / "closed", name="closed", cluster=cluster, token=SECRET_TOKEN)
        async with await ApiServer.connected(settings_for(kubeconfig, "default")) as server:
            with pytest.raises(ApiServerUnavailable, match="the API server cannot be reached") as raised:
                await server.create_job(a_job("any"))
    assert SECRET_TOKEN not in str(raised.value)
