"""Mounted secrets that change: rotated once, only where the new value can be used, and never shown."""

import asyncio
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict

from embedding_operator.rotation import LOOK_EVERY_S, MountedSecret, Rotation
from embedding_worker.errors import DatabaseUnavailable
from tests.support.fake_clock import FakeClock

OLD, NEW, NEWER = "s3cr3t-old", "s3cr3t-new", "s3cr3t-newer"
VARIABLE = "DATABASE_URL_FILE"


class Rotated:
    """Accepts values, unless it is to refuse them; records what it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.refusal: Exception | None = None

    async def rotate(self, value: str) -> None:
        self.given.append(value)
        if self.refusal is not None:
            raise self.refusal


class Mounted:
    """A secret as the kubelet mounts it: the file is a link into a folder that is itself a link, which is swapped."""

    def __init__(self, folder: Path, value: str) -> None:
        self._folder = folder
        self._count = 0
        self.file = folder / "DATABASE_URL"
        self.swap(value)
        self.file.symlink_to(Path("..data") / "DATABASE_URL")

    def swap(self, value: str) -> None:
        self._count += 1
        version = self._folder / f"..version-{self._count}"
        version.mkdir()
        (version / "DATABASE_URL").write_text(f"{value}\n")
        link = self._folder / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self._folder / "..data")


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    return Mounted(tmp_path, OLD)


@pytest.fixture
def rotated() -> Rotated:
    return Rotated()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def looking(mounted: Mounted, rotated: Rotated, clock: FakeClock) -> Rotation:
    return Rotation([MountedSecret(VARIABLE, mounted.file, OLD)], {VARIABLE: rotated.rotate}, clock=clock)


def messages(logs: list[EventDict]) -> list[str]:
    return [str(entry.get("message", entry["event"])) for entry in logs]


async def test_a_secret_that_the_kubelet_swaps_is_rotated_once(
    mounted: Mounted, rotated: Rotated, looking: Rotation
) -> None:
    await looking.look()
    assert rotated.given == []
    mounted.swap(NEW)
    await looking.look()
    await looking.look()
    mounted.swap(NEWER)
    await looking.look()
    assert rotated.given == [NEW, NEWER]


async def test_a_secret_put_back_is_a_rotation_too(mounted: Mounted, rotated: Rotated, looking: Rotation) -> None:
    for value in (NEW, OLD):
        mounted.swap(value)
        await looking.look()
    assert rotated.given == [NEW, OLD]


@pytest.mark.parametrize("how", ["empty", "missing", "no text"])
async def test_an_unusable_file_is_reported_once_and_the_old_value_stays(
    mounted: Mounted, rotated: Rotated, looking: Rotation, how: str
) -> None:
    if how == "missing":
        mounted.file.unlink()
    else:
        mounted.file.write_bytes(b"\xff\xfe" if how == "no text" else b" \n")
    with structlog.testing.capture_logs() as logs:
        await looking.look()
        await looking.look()
    assert rotated.given == []
    assert [entry["event"] for entry in logs] == ["secret not rotated: the old value stays in force"]
    assert messages(logs)[0].startswith(f"{VARIABLE} is {str(mounted.file)!r}, which ")
    mounted.file.unlink(missing_ok=True)
    mounted.file.write_text(NEW)
    await looking.look()
    assert rotated.given == [NEW]


@pytest.mark.parametrize("refusal", [DatabaseUnavailable("no connection could be made"), ZeroDivisionError()])
async def test_a_value_that_is_refused_is_tried_again_at_each_look(
    mounted: Mounted, rotated: Rotated, looking: Rotation, refusal: Exception
) -> None:
    rotated.refusal = refusal
    mounted.swap(NEW)
    with structlog.testing.capture_logs() as logs:
        await looking.look()
        await looking.look()
        rotated.refusal = None
        await looking.look()
        await looking.look()
    assert rotated.given == [NEW, NEW, NEW]
    assert messages(logs)[-1] == "secret rotated"
    assert messages(logs).count("no connection could be made") == isinstance(refusal, DatabaseUnavailable)


async def test_no_value_is_ever_logged(mounted: Mounted, rotated: Rotated, looking: Rotation) -> None:
    with structlog.testing.capture_logs() as logs:
        mounted.swap(NEW)
        await looking.look()
        rotated.refusal = DatabaseUnavailable("no connection could be made")
        mounted.swap(NEWER)
        await looking.look()
    assert logs
    assert "s3cr3t" not in repr(logs) + repr(vars(looking)["_secrets"])


async def test_a_problem_with_one_secret_hides_no_other(mounted: Mounted, rotated: Rotated, tmp_path: Path) -> None:
    secrets = [MountedSecret("GONE_FILE", tmp_path / "gone", OLD), MountedSecret(VARIABLE, mounted.file, OLD)]
    looking = Rotation(secrets, {"GONE_FILE": rotated.rotate, VARIABLE: rotated.rotate}, clock=FakeClock())
    mounted.swap(NEW)
    await looking.look()
    assert rotated.given == [NEW]


async def test_it_looks_again_every_few_seconds(
    mounted: Mounted, rotated: Rotated, looking: Rotation, clock: FakeClock
) -> None:
    running = asyncio.create_task(looking.run())
    mounted.swap(NEW)
    await clock.advance(LOOK_EVERY_S / 2)
    assert rotated.given == []
    await clock.advance(LOOK_EVERY_S)
    assert rotated.given == [NEW]
    mounted.swap(NEWER)
    await clock.advance(LOOK_EVERY_S)
    assert rotated.given == [NEW, NEWER]
    running.cancel()


async def test_without_a_mounted_secret_there_is_nothing_to_look_at(rotated: Rotated) -> None:
    await Rotation([], {VARIABLE: rotated.rotate}, clock=FakeClock()).run()
