"""The operator's client against the real API server: each refusal becomes the error that says how to react."""

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

SECRET_TOKEN = "marker-of-a-token"


def names(items: list[dict[str, object]]) -> set[str]:
    return {item["metadata"]["name"] for item in items}  # type: ignore[index]


async def test_a_second_create_already_exists(server: ApiServer, name: str) -> None:
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


async def test_a_refused_create_says_the_servers_sentence(server: ApiServer, name: str) -> None:
    with pytest.raises(RequestRefused, match=r"spec\.contentHash must be a SHA-256 in 64 hexadecimal digits"):
        await server.create_job(a_job(name, contentHash="none"))


async def test_a_job_that_is_not_there_is_gone(server: ApiServer, name: str) -> None:
    with pytest.raises(Gone, match=f'"{name}" not found'):
        await server.job(name)
    with pytest.raises(Gone):
        await server.patch_job_status(name, {"phase": "Succeeded"})
    with pytest.raises(Gone):
        await server.delete_job(name, uid="00000000-0000-0000-0000-000000000000")


async def test_a_source_that_is_not_there_is_gone(server: ApiServer, name: str) -> None:
    with pytest.raises(Gone):
        await server.patch_source_status(name, {"observedGeneration": 1})


async def test_a_patch_against_the_phase_is_refused_with_the_crds_sentence(server: ApiServer, name: str) -> None:
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


async def test_without_a_field_selector_the_label_decides(server: ApiServer, name: str) -> None:
    await server.create_job(a_job(f"{name}-mine", labels={"of": name}))
    await server.create_job(a_job(f"{name}-other"))
    before = names(await server.jobs())
    await server.delete_jobs(labels=f"of={name}")
    assert before - names(await server.jobs()) == {f"{name}-mine"}


async def test_deleting_where_nothing_matches_is_fine(server: ApiServer, name: str) -> None:
    await server.delete_jobs(labels=f"of={name}")


async def test_nothing_is_deleted_without_a_selector(server: ApiServer) -> None:
    with pytest.raises(ValueError, match="a selector is needed"):
        await server.delete_jobs()


async def test_a_list_of_several_pages_is_whole(
    server: ApiServer, admin: PlainRequests, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {f"{name}-{number}" for number in range(5)}
    for job in made:
        await server.create_job(a_job(job))
    monkeypatch.setattr("embedding_operator.api_server.PAGE", 2)
    shown = [item["metadata"]["name"] for item in await server.jobs()]
    assert made <= set(shown)
    assert sorted(shown) == sorted(await admin.names(JOBS))


async def test_sources_are_listed_too(
    server: ApiServer, admin: PlainRequests, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {f"{name}-{number}" for number in range(3)}
    for source in made:
        assert (await admin.create(SOURCES, a_source(source))).accepted
    monkeypatch.setattr("embedding_operator.api_server.PAGE", 1)
    assert made <= names(await server.sources())


async def test_what_is_forbidden_is_refused_with_the_servers_sentence(operator_server: ApiServer) -> None:
    operator_server.namespace = "default"
    with pytest.raises(RequestRefused, match=r"cannot list resource .* in the namespace \"default\""):
        await operator_server.jobs()


async def test_without_a_namespace_of_its_own_the_kubeconfigs_is_taken(namespace: Namespace) -> None:
    settings = settings_for(namespace.operator_kubeconfig, "")
    async with await ApiServer.connected(settings) as server:
        assert server.namespace == namespace.name


async def test_a_bad_token_means_waiting_for_a_good_one(server: ApiServer, tmp_path: Path) -> None:
    cluster = {"server": server.host, "insecure-skip-tls-verify": True}
    kubeconfig = write_kubeconfig(tmp_path / "bad", name="bad", cluster=cluster, token=SECRET_TOKEN)
    async with await ApiServer.connected(settings_for(kubeconfig, "default")) as stranger:
        with pytest.raises(ApiServerUnavailable, match="Unauthorized") as raised:
            await stranger.jobs()
    assert SECRET_TOKEN not in str(raised.value)


async def test_a_server_that_nobody_vouches_for_is_not_talked_to(server: ApiServer, tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "unknown", name="any", cluster={"server": server.host}, token=SECRET_TOKEN)
    async with await ApiServer.connected(settings_for(kubeconfig, "default")) as stranger:
        with pytest.raises(ApiServerUnavailable, match="Certificate"):
            await stranger.jobs()


async def test_a_server_that_does_not_listen_is_unavailable(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and never listens
        cluster = {"server": f"https://127.0.0.1:{unused.getsockname()[1]}"}
        kubeconfig = write_kubeconfig(tmp_path / "away", name="away", cluster=cluster, token=SECRET_TOKEN)
        async with await ApiServer.connected(settings_for(kubeconfig, "default")) as server:
            with pytest.raises(ApiServerUnavailable, match="the API server is away") as raised:
                await server.create_job(a_job("any"))
    assert SECRET_TOKEN not in str(raised.value)
