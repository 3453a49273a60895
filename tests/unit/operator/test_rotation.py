"""Mounted secrets that change: taken once, never where they are of no use, and never told."""

import asyncio
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict

from embedding_operator import rotation
from embedding_operator.rotation import MountedSecret, Rotation
from embedding_worker.errors import DatabaseUnavailable
from tests.support.deadline import eventually

OLD, NEW, NEWER = "s3cr3t-old", "s3cr3t-new", "s3cr3t-newer"
VARIABLE = "DATABASE_URL_FILE"


class Taker:
    """Takes values, unless it is to refuse them; notes what it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.refusal: Exception | None = None

    async def take(self, value: str) -> None:
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
def taker() -> Taker:
    return Taker()


@pytest.fixture
def looking(mounted: Mounted, taker: Taker) -> Rotation:
    return Rotation([MountedSecret(VARIABLE, mounted.file, OLD)], {VARIABLE: taker.take})


def told(logs: list[EventDict]) -> list[str]:
    return [str(entry.get("message", entry["event"])) for entry in logs]


async def test_a_secret_that_the_kubelet_swaps_is_taken_once(mounted: Mounted, taker: Taker, looking: Rotation) -> None:
    await looking.look()
    assert taker.given == []
    mounted.swap(NEW)
    await looking.look()
    await looking.look()
    mounted.swap(NEWER)
    await looking.look()
    assert taker.given == [NEW, NEWER]


async def test_a_secret_put_back_is_a_rotation_too(mounted: Mounted, taker: Taker, looking: Rotation) -> None:
    for value in (NEW, OLD):
        mounted.swap(value)
        await looking.look()
    assert taker.given == [NEW, OLD]


@pytest.mark.parametrize("how", ["empty", "missing", "no text"])
async def test_a_file_of_no_use_is_told_once_and_the_value_before_stays(
    mounted: Mounted, taker: Taker, looking: Rotation, how: str
) -> None:
    if how == "missing":
        mounted.file.unlink()
    else:
        mounted.file.write_bytes(b"\xff\xfe" if how == "no text" else b" \n")
    with structlog.testing.capture_logs() as logs:
        await looking.look()
        await looking.look()
    assert taker.given == []
    assert [entry["event"] for entry in logs] == ["secret not rotated: the value before stays in force"]
    assert told(logs)[0].startswith(f"{VARIABLE} is {str(mounted.file)!r}, which ")
    mounted.file.unlink(missing_ok=True)
    mounted.file.write_text(NEW)
    await looking.look()
    assert taker.given == [NEW]


@pytest.mark.parametrize("refusal", [DatabaseUnavailable("no connection could be had"), ZeroDivisionError()])
async def test_a_value_that_is_refused_is_tried_again_at_each_look(
    mounted: Mounted, taker: Taker, looking: Rotation, refusal: Exception
) -> None:
    taker.refusal = refusal
    mounted.swap(NEW)
    with structlog.testing.capture_logs() as logs:
        await looking.look()
        await looking.look()
        taker.refusal = None
        await looking.look()
        await looking.look()
    assert taker.given == [NEW, NEW, NEW]
    assert told(logs)[-1] == "secret rotated"
    assert told(logs).count("no connection could be had") == isinstance(refusal, DatabaseUnavailable)


async def test_no_value_is_ever_told(mounted: Mounted, taker: Taker, looking: Rotation) -> None:
    with structlog.testing.capture_logs() as logs:
        mounted.swap(NEW)
        await looking.look()
        taker.refusal = DatabaseUnavailable("no connection could be had")
        mounted.swap(NEWER)
        await looking.look()
    assert logs
    assert "s3cr3t" not in repr(logs) + repr(vars(looking)["_secrets"])


async def test_what_goes_wrong_with_one_secret_hides_no_other(mounted: Mounted, taker: Taker, tmp_path: Path) -> None:
    secrets = [MountedSecret("GONE_FILE", tmp_path / "gone", OLD), MountedSecret(VARIABLE, mounted.file, OLD)]
    looking = Rotation(secrets, {"GONE_FILE": taker.take, VARIABLE: taker.take})
    mounted.swap(NEW)
    await looking.look()
    assert taker.given == [NEW]


async def test_it_looks_again_and_again(
    mounted: Mounted, taker: Taker, looking: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "LOOK_EVERY_S", 0.01)
    running = asyncio.create_task(looking.run())
    mounted.swap(NEW)
    await eventually(lambda: taker.given == [NEW], within_s=5, because="the file has changed")
    mounted.swap(NEWER)
    await eventually(lambda: taker.given == [NEW, NEWER], within_s=5, because="the file has changed again")
    running.cancel()


async def test_without_a_mounted_secret_there_is_nothing_to_look_at(taker: Taker) -> None:
    await Rotation([], {VARIABLE: taker.take}).run()
