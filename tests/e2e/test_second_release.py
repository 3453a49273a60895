"""A second release in the same cluster: its own namespace, a Secret that is rotated, an uninstall and a reinstall."""

from tests.e2e.conftest import ROLE, role_url
from tests.e2e.test_first_release import wait_until_fresh
from tests.support.deadline import wait_until
from tests.support.installed import Release
from tests.support.yellow_book import YellowBook

NEW_PASSWORD = "the-second-one"


def test_two_releases_work_at_the_same_time_each_on_its_own_rows(
    second: Release, second_book: YellowBook, yellow_book: Release, book: YellowBook
) -> None:
    for each in (second_book, book):
        each.add(10, prefix="Beside each other")
    wait_until_fresh(second, second_book)
    wait_until_fresh(yellow_book, book)
    assert {job["spec"]["businessId"] for job in second.jobs()} <= {
        row for (row,) in second_book.run("SELECT id::text FROM public.businesses")
    }


def test_a_rotated_password_reaches_the_operator_without_a_restart(
    second: Release, second_book: YellowBook, yellow_book: Release, server_url: str
) -> None:
    before = second.pod()
    admin = YellowBook(f"{server_url}/postgres")
    admin.run(f"ALTER ROLE {ROLE} PASSWORD '{NEW_PASSWORD}'")
    second.patch("secret/the-database", {"stringData": {"url": role_url(yellow_book, NEW_PASSWORD)}})
    # Connections that were made with the old password would stay without limit.
    admin.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", ROLE)
    second_book.add(20, prefix="After the rotation")
    wait_until_fresh(second, second_book)
    after = second.pod()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_rotated_api_key_reaches_the_operator_without_a_restart(second: Release, second_book: YellowBook) -> None:
    before = second.pod()["metadata"]["uid"]
    second.patch("secret/the-key", {"stringData": {"key": "the-second-key"}})

    def log() -> str:
        return second.kubectl.run("logs", f"deployment/{second.fullname}", "--tail=200")

    wait_until(
        lambda: [line for line in log().splitlines() if "secret rotated" in line and "GEMINI_API_KEY_FILE" in line],
        within_s=120,
        every_s=1,
        because="the kubelet replaces the file, and the operator reads it again",
    )
    assert "the-second-key" not in log()
    assert second.pod()["metadata"]["uid"] == before


def embedded_at(book: YellowBook) -> dict[str, str]:
    """When each row was last embedded, by the operator's book-keeping."""
    ((table,),) = book.run(
        "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'embedding_operator'::regnamespace "
        "AND c.relkind = 'r' AND c.relname LIKE '%%\\_state'"
    )
    return dict(book.run(f"SELECT id::text, embedded_at::text FROM {table}"))


def test_an_uninstall_keeps_sources_and_jobs_and_a_reinstall_uses_them(
    second: Release, second_book: YellowBook
) -> None:
    jobs = {job["metadata"]["uid"] for job in second.jobs()}
    source = second.kubectl.get("embeddingsource", "businesses")["metadata"]["uid"]
    before = embedded_at(second_book)
    second.uninstall()
    crds = {crd["metadata"]["name"] for crd in second.kubectl.get("crds")["items"]}
    assert {f"{kind}.embeddings.yellowbook.dev" for kind in ("embeddingsources", "embeddingjobs")} <= crds
    assert second.kubectl.get("embeddingsource", "businesses")["metadata"]["uid"] == source
    assert {job["metadata"]["uid"] for job in second.jobs()} == jobs

    second_book.add(5, prefix="During the uninstall")
    second.install()
    wait_until_fresh(second, second_book)
    after = embedded_at(second_book)
    assert len(after) == len(before) + 5
    assert {row: at for row, at in after.items() if row in before} == before


def test_the_uninstall_of_the_release_with_the_crds_keeps_them_too(
    yellow_book: Release, book: YellowBook, second: Release
) -> None:
    """It runs last, because the development database is removed with its release."""
    source = yellow_book.kubectl.get("embeddingsource", "businesses")["metadata"]["uid"]
    second.uninstall()
    yellow_book.uninstall()
    assert yellow_book.jobs()
    assert yellow_book.kubectl.get("embeddingsource", "businesses")["metadata"]["uid"] == source
    assert second.kubectl.get("embeddingsource", "businesses")["metadata"]["name"] == "businesses"
    yellow_book.install()
    assert yellow_book.pod()["status"]["containerStatuses"][0]["ready"]
