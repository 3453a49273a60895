"""Secrets that change in their mounted files: the running process uses the new values without a restart."""

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from hack.database.postgres import url_with
from hack.installation.operator_process import OperatorProcess
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import GEMINI_MODEL, System
from tests.support.deadline import wait_until
from tests.support.yellow_book import fake_gemini_model

NEW = "s3cr3t-of-Tomorrow"
ROTATED = "secret rotated"


def mount_secret(system: System, name: str, value: str) -> Path:
    path = system.folder / name
    path.write_text(f"{value}\n")
    return path


def wait_for_log(operator: OperatorProcess, *words: str) -> None:
    def is_logged() -> bool:
        return any(all(word in line for word in words) for line in operator.log.read_text().splitlines())

    wait_until(is_logged, within_s=30, every_s=0.1, because="the file is read every five seconds")


@pytest.mark.timeout(400)
def test_a_password_of_the_database_is_rotated_in_either_order_without_a_restart(system: System) -> None:
    system.book.add(5)
    system.apply_source()
    file = mount_secret(system, "DATABASE_URL", system.database_url)
    operator = system.start_operator(DATABASE_URL="", DATABASE_URL_FILE=str(file))
    system.wait_until_fresh()
    role = str(conninfo_to_dict(system.database_url)["user"])
    terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"

    # First in the database; the existing connections are ended too.
    system.book.run(f"ALTER ROLE {role} PASSWORD '{NEW}-1'")
    system.book.run(terminate)
    system.book.add(5, prefix="Without a valid password")
    file.write_text(url_with(system.database_url, role=role, password=f"{NEW}-1"))
    system.wait_until_fresh()

    # First in the file; the previous password stays in force until the database accepts the new one.
    file.write_text(url_with(system.database_url, role=role, password=f"{NEW}-2"))
    wait_for_log(operator, "secret not rotated", "the password is refused")
    system.book.add(5, prefix="With the old password")
    system.wait_until_fresh()
    system.book.run(f"ALTER ROLE {role} PASSWORD '{NEW}-2'")
    wait_until(
        lambda: operator.log.read_text().count(ROTATED) == 2, within_s=30, because="a refused value is tried again"
    )
    system.book.run(terminate)
    system.book.add(5, prefix="With the new password")
    system.wait_until_fresh()
    assert operator.is_running()
    assert NEW not in operator.log.read_text()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("fault", "reason"), [(None, "ApiKeyInvalid"), ("429-day", "QuotaExhausted")], ids=["revoked", "exhausted"]
)
def test_a_providers_key_is_rotated_without_a_restart(
    system: System, gemini: FakeGemini, fault: str | None, reason: str
) -> None:
    """The throttle of the old key does not apply to the new one: an exhausted quota would stop calls for 15 minutes."""
    system.book.model = fake_gemini_model
    system.book.add(3)
    system.apply_source(model=GEMINI_MODEL)
    if fault is not None:
        gemini.fault(fault)
    file = mount_secret(system, "GEMINI_API_KEY", gemini.api_key if fault else "revoked-key")
    operator = system.start_operator(GEMINI_API_KEY_FILE=str(file), EMBEDDING_GEMINI_ENDPOINT=gemini.url)
    system.wait_for_condition("ProviderReady", reason)
    file.write_text("")
    wait_for_log(operator, "secret not rotated", "which is empty")
    gemini.stop()
    gemini.api_key = NEW
    gemini.start()
    file.write_text(NEW)
    wait_for_log(operator, ROTATED, "GEMINI_API_KEY_FILE")
    system.wait_until_fresh()
    system.wait_for_condition("ProviderReady", "True")
    wait_until(
        lambda: {job["status"]["phase"] for job in system.jobs()} == {"Succeeded"},
        within_s=20,
        because="every row is fresh",
    )
    assert NEW not in operator.log.read_text()
