"""Rows that change: a row whose text has changed is embedded again, and any other edit creates no job."""

import pytest
import yaml

from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until
from tests.support.open_jobs_watch import OpenJobsWatch

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def fresh(system: System) -> System:
    """Five fresh rows, and a running operator."""
    system.book.add(5)
    system.start_operator()
    system.apply_source()
    system.wait_until_fresh()
    return system


def test_an_edited_row_gets_the_vector_of_its_new_text(fresh: System) -> None:
    before = fresh.book.vector(2)
    fresh.book.run("UPDATE public.businesses SET description = 'repairs clocks' WHERE id = 2")
    fresh.wait_until_fresh()
    assert fresh.book.vector(2) != before
    hashes = {job["spec"]["contentHash"] for job in fresh.jobs(2)}
    assert len(hashes) == 2


def test_an_edited_phone_number_creates_no_job_and_writes_nothing(fresh: System) -> None:
    version = "SELECT xmin::text FROM public.businesses WHERE id = 3"
    fresh.book.run("UPDATE public.businesses SET phone = '+1-555-0199', email = 'new@example.com' WHERE id = 3")
    after_the_edit = fresh.book.run(version)
    fresh.book.run("UPDATE public.businesses SET description = 'a later edit' WHERE id = 4")
    fresh.wait_until_fresh()
    wait_until(
        lambda: set(fresh.reasons(4)) == {"Embedded"},
        within_s=30,
        because="a job's status is sent after its row is written",
    )
    assert fresh.book.run(version) == after_the_edit
    wait_until(lambda: fresh.reasons(3) == ["Embedded"], within_s=30, because="its only job is that of the first fill")


def test_the_job_of_a_deleted_row_is_superseded(fresh: System) -> None:
    manifest = fresh.jobs(1)[0]
    job = {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {"name": "businesses-6-deleted", "labels": manifest["metadata"]["labels"]},
        "spec": manifest["spec"] | {"businessId": "6"},
    }
    fresh.kubectl.run("create", "-f", "-", stdin=yaml.safe_dump(job))
    wait_until(lambda: fresh.reasons(6) == ["RowDeleted"], within_s=30, because="business 6 does not exist")
    assert fresh.jobs(6)[0]["status"]["phase"] == "Superseded"


def test_rows_that_are_deleted_while_they_are_due_leave_no_change_mark(fresh: System) -> None:
    fresh.book.run(
        "WITH added AS (INSERT INTO public.businesses (name) VALUES ('Brief') RETURNING id) SELECT id FROM added"
    )
    fresh.book.run("DELETE FROM public.businesses WHERE id > 3")
    fresh.wait_until_fresh()
    assert fresh.book.run("SELECT count(*) FROM public.businesses") == [(3,)]


def test_a_row_with_an_empty_text_is_fresh_without_a_vector_or_a_job(fresh: System) -> None:
    fresh.book.run("INSERT INTO public.businesses (id, name) VALUES (90, ''), (91, '   ')")
    fresh.book.run(
        "UPDATE public.businesses SET name = '', description = NULL, city = NULL, categories = '{}' WHERE id = 5"
    )
    fresh.wait_until_fresh()
    assert [fresh.book.vector(business) for business in (5, 90, 91)] == [None] * 3
    assert [len(fresh.jobs(business)) for business in (5, 90, 91)] == [1, 0, 0]


def test_a_text_that_is_edited_and_edited_back_is_fresh_each_time(fresh: System) -> None:
    edit = "UPDATE public.businesses SET name = %s WHERE id = 1"
    (name,) = fresh.book.run("SELECT name FROM public.businesses WHERE id = 1")[0]
    for text in ("Something else", name, "Something else"):
        fresh.book.run(edit, text)
        fresh.wait_until_fresh()
    fresh.book.run(edit, name)
    fresh.book.run(edit, "Something else")  # before a sweep has seen the edit before
    fresh.wait_until_fresh(within_s=120)  # if one has, the row has had as many jobs as a minute allows


def test_a_vector_that_is_set_to_null_is_found_by_the_audit(fresh: System) -> None:
    fresh.book.run("UPDATE public.businesses SET embedding = NULL WHERE id = 4")
    wait_until(lambda: fresh.book.vector(4), within_s=30, because="the audit runs continuously")
    assert fresh.book.outdated_rows() == []


def test_two_operators_never_create_a_second_open_job_for_a_row(system: System) -> None:
    system.book.add(150)
    with OpenJobsWatch(system.kubectl) as watch:
        system.start_operator()
        system.start_operator()  # a second one by mistake: both find every due row
        system.apply_source()
        system.book.run("UPDATE public.businesses SET name = name || '!' WHERE id % 3 = 0")
        system.wait_until_fresh()
        wait_until(
            lambda: not [job for job in system.jobs() if job["status"]["phase"] in ("Pending", "Retrying")],
            within_s=30,
            because="every row is fresh",
        )
    assert watch.most_for_one_business == 1
