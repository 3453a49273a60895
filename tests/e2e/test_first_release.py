"""Rows and jobs with the chart's own pods, from `helm install --wait` to a pod that is killed during its work."""

import itertools
import json
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hack.errors import ToolError
from tests.support.deadline import wait_until
from tests.support.installed import DATABASE, PASSWORD, Release
from tests.support.yellow_book import YellowBook

FRESH_WITHIN_S = 120


def wait_until_fresh(release: Release, book: YellowBook) -> None:
    """Wait until every row has the vector that the model gives for its text, and no job is open."""
    wait_until(
        lambda: book.run("SELECT count(*) FROM public.businesses WHERE embedding IS NULL")[0][0] == 0,
        within_s=FRESH_WITHIN_S,
        every_s=0.5,
        because="the operator fills every row",
    )
    wait_until(
        lambda: book.outdated_rows() == [], within_s=FRESH_WITHIN_S, every_s=0.5, because="every edit is embedded"
    )
    wait_until(
        lambda: not release.jobs("status.phase!=Succeeded", "status.phase!=Superseded", "status.phase!=DeadLettered"),
        within_s=FRESH_WITHIN_S,
        every_s=0.5,
        because="a job ends when its row is fresh",
    )


def set_too_long(release: Release, action: str) -> None:
    """Change what is done with a text that is too long, and wait until the operator works by it."""
    release.patch("embeddingsource/businesses", {"spec": {"model": {"tooLong": action}}})
    generation = release.kubectl.get("embeddingsource", "businesses")["metadata"]["generation"]
    release.wait_for(f"jsonpath={{.status.observedGeneration}}={generation}", "embeddingsource/businesses")
    release.wait_for("condition=Ready", "embeddingsource/businesses")


def leading_pod(release: Release) -> str:
    """The name of the leader; empty while there is none, or while the Lease names a pod that is gone or ends."""
    pods = release.kubectl.get("pods")["items"]
    names = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    leader = release.leader()
    return leader if leader in names else ""


def test_helm_install_has_waited_until_the_operator_was_ready(yellow_book: Release) -> None:
    deployment = yellow_book.kubectl.get("deployment", yellow_book.fullname)
    assert deployment["status"]["readyReplicas"] == 1
    assert yellow_book.pod()["status"]["containerStatuses"][0]["restartCount"] == 0


def test_the_pod_runs_without_root_on_a_read_only_file_system(yellow_book: Release) -> None:
    pod = yellow_book.pod()["metadata"]["name"]
    assert yellow_book.kubectl.run("exec", pod, "--", "id", "-u").strip() == "65532"
    refused = yellow_book.kubectl.try_run("exec", pod, "--", "touch", "/opt/embedding-operator/made")
    assert "Read-only file system" in refused.stderr


def test_the_image_adds_less_than_250_mb_to_its_base_and_no_build_tools(yellow_book: Release) -> None:
    pod = yellow_book.pod()["metadata"]["name"]

    def inside(command: str) -> str:
        return yellow_book.kubectl.run("exec", pod, "--", "sh", "-c", command).strip()

    assert 50 < int(inside("du -s -B1M /opt/embedding-operator | cut -f1")) < 250
    assert inside("for each in gcc cc make uv; do command -v $each; done; true") == ""
    assert inside("find /opt -path '*discovery_cache/documents*' -o -name '*.whl' -o -name uv.lock") == ""


def test_no_secret_is_in_the_pods_environment_or_arguments(yellow_book: Release) -> None:
    pod = yellow_book.pod()["metadata"]["name"]
    for file in ("environ", "cmdline"):
        shown = yellow_book.kubectl.run("exec", pod, "--", "cat", f"/proc/1/{file}")
        assert "embedding-operator" in shown
        assert "postgresql://" not in shown


def test_rows_become_fresh_with_the_real_model(yellow_book: Release, book: YellowBook) -> None:
    wait_until_fresh(yellow_book, book)
    shown = yellow_book.kubectl.run("get", "embeddingsources,embeddingjobs")
    assert "universal-sentence-encoder-multilingual-3" in shown
    assert "Succeeded" in shown


def test_a_row_is_explained_by_the_leaders_pod_and_a_report_has_its_log_and_metrics(
    yellow_book: Release, book: YellowBook, tmp_path: Path
) -> None:
    told = yellow_book.embeddings("explain", "businesses/1", "-o", "json")
    answer = json.loads(told)
    assert (answer["row"]["state"], answer["leader"]) == ("UpToDate", yellow_book.leader())
    path = tmp_path / "report.tar.gz"
    yellow_book.embeddings("report", "-o", str(path))
    with tarfile.open(path) as archive:
        opened = {entry.name.partition("/")[2]: archive.extractfile(entry) for entry in archive.getmembers()}
        files = {name: file.read().decode() for name, file in opened.items() if file is not None}
    assert json.loads(files["manifest.json"])["missing"] == []
    assert "embedding_operator_leader 1.0" in files["metrics.txt"]
    assert "operator ready" in files[f"logs/{yellow_book.leader()}-operator.log"]
    assert [name for name, text in files.items() if PASSWORD in text] == []


def test_helm_test_checks_database_rights_provider_and_crds(yellow_book: Release, book: YellowBook) -> None:
    shown = yellow_book.helm.run(
        "test", yellow_book.name, "--namespace", yellow_book.namespace, "--logs", "--timeout=120s"
    )
    assert "✓" in shown
    assert "✗" not in shown


def test_a_refused_text_is_a_dead_letter_and_is_replayed_by_kubectl(yellow_book: Release, book: YellowBook) -> None:
    set_too_long(yellow_book, "Refuse")
    ((business,),) = book.run(
        "INSERT INTO public.businesses (name, description) VALUES ('Long', repeat('very long ', 2000)) RETURNING id"
    )
    job = yellow_book.job_in_phase("DeadLettered", business)
    dead = yellow_book.kubectl.get("embeddingjob", job)["status"]
    assert dead["reason"] == "TextTooLong"

    set_too_long(yellow_book, "Truncate")
    yellow_book.replay(job)
    yellow_book.wait_for("condition=Succeeded", f"embeddingjob/{job}", within_s=60)
    replayed = yellow_book.kubectl.get("embeddingjob", job)["status"]
    assert (replayed["phase"], replayed["replays"]) == ("Succeeded", 1)
    assert book.vector(business) is not None
    book.run("DELETE FROM public.businesses WHERE id = %s", business)


def test_no_row_stays_due_after_an_upgrade(yellow_book: Release, book: YellowBook) -> None:
    before = yellow_book.pod()["metadata"]["uid"]
    stop = threading.Event()

    def keep_writing() -> int:
        rounds = 0
        while not stop.wait(0.2):
            book.add(10, prefix="During the upgrade")
            book.run("UPDATE public.businesses SET city = city || '.' WHERE id <= 3")
            rounds += 1
        return rounds

    with ThreadPoolExecutor(1) as threads:
        writer = threads.submit(keep_writing)
        try:
            yellow_book.install("--set=settings.logLevel=debug")
        finally:
            stop.set()
        assert writer.result() > 5
    assert yellow_book.pod()["metadata"]["uid"] != before
    wait_until_fresh(yellow_book, book)


def test_a_pod_that_is_killed_during_its_work_loses_no_row(yellow_book: Release, book: YellowBook) -> None:
    book.add(1000, prefix="Before the kill")
    rounds = itertools.count(2)

    def some_are_done() -> bool:
        unfilled = int(book.run("SELECT count(*) FROM public.businesses WHERE embedding IS NULL")[0][0])
        if unfilled == 0:  # all were done between two looks
            book.add(1000, prefix=f"Before the kill, round {next(rounds)}")
        return 0 < unfilled < 950

    wait_until(some_are_done, within_s=60, every_s=0.05, because="some are done, not all")
    pod = yellow_book.pod()["metadata"]
    yellow_book.kubectl.run("delete", "pod", pod["name"], "--grace-period=0", "--force")
    wait_until_fresh(yellow_book, book)
    assert yellow_book.pod()["metadata"]["uid"] != pod["uid"]


def test_a_second_pod_works_when_the_leader_is_killed(yellow_book: Release, book: YellowBook) -> None:
    yellow_book.install("--set=replicas=2")
    leader = wait_until(lambda: leading_pod(yellow_book), within_s=60, because="one of the pods leads")
    yellow_book.kubectl.run("delete", "pod", leader, "--grace-period=0", "--force")
    # For a moment, the pod still works whose object is gone.
    wait_until(lambda: yellow_book.leader() not in ("", leader), within_s=120, every_s=0.5, because="another pod leads")
    book.add(10, prefix="Without the first leader")
    wait_until_fresh(yellow_book, book)
    yellow_book.install("--set=replicas=1")


@pytest.mark.parametrize(
    ("helm_version", "words"), [("helm3", "context deadline exceeded"), ("helm4", "Progress deadline exceeded")]
)
def test_a_missing_secret_ends_the_wait_in_time_and_is_named(
    yellow_book: Release, helm_version: str, words: str
) -> None:
    values = ("crds.install=false", "database.existingSecret=not-there", "progressDeadlineSeconds=10")
    flags = tuple(f"--set={value}" for value in values)
    release = Release("secretless", f"secretless-{helm_version}", yellow_book.pods, helm_version, flags)
    with pytest.raises(ToolError, match=words):
        release.install(timeout_s=20)

    def described() -> str:
        return release.kubectl.run("describe", "pods", "--selector=app.kubernetes.io/component=operator")

    wait_until(
        lambda: 'secret "not-there" not found' in described(),
        within_s=60,
        every_s=0.5,
        because="the kubelet says why the pod does not start",
    )
    # Once the Secret exists, the pod starts without another command.
    host = f"{yellow_book.fullname}-postgresql.{yellow_book.namespace}.svc"
    url = f"postgresql://postgres:{PASSWORD}@{host}:5432/{DATABASE}"
    release.kubectl.run("create", "secret", "generic", "not-there", f"--from-literal=DATABASE_URL={url}")
    release.wait_for("condition=Available", f"deployment/{release.fullname}", within_s=180)
    release.uninstall()


def test_an_unreachable_database_ends_the_wait_too(yellow_book: Release) -> None:
    values = ("crds.install=false", "database.url=postgresql://nobody:nothing@not-there.example/none")
    flags = tuple(f"--set={value}" for value in values)
    release = Release("databaseless", "databaseless", yellow_book.pods, "helm4", flags)
    with pytest.raises(ToolError, match="context deadline exceeded"):
        release.install(timeout_s=20)
    shown = release.helm.try_run("test", release.name, "--namespace", release.namespace, "--logs", "--timeout=90s")
    assert shown.returncode != 0
    assert "✗ database" in shown.stdout + shown.stderr
    release.uninstall()
