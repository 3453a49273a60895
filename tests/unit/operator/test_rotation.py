"""Mounted secrets that change: rotated once, only where the new value can be used, and never shown."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.typing import EventDict

from embedding_operator.rotation import LOOK_EVERY_S, MountedSecret, Rotation, SecretUnreadable, read_secret
from embedding_worker.errors import DatabaseUnavailable
from embedding_worker.rows.database_url import libpq_url
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


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"s3cr3t\n", "s3cr3t"),
        (b"s3cr3t\r\n", "s3cr3t"),
        (b"\n s3cr3t \n\n", "s3cr3t"),
        (b"\xef\xbb\xbfs3cr3t", "s3cr3t"),
        ("pässwört with spaces".encode(), "pässwört with spaces"),
    ],
)
def test_the_ends_of_a_file_are_no_part_of_its_secret(tmp_path: Path, content: bytes, secret: str) -> None:
    (tmp_path / "key").write_bytes(content)
    assert read_secret(VARIABLE, tmp_path / "key") == secret


UNUSABLE = {
    "several lines": (b"one\n# was: s3cr3t\n", "which has 2 lines: leave the secret alone in it, on one line"),
    "lines of a shell": (
        b"export A=1\r\nexport B=s3cr3t",
        "which has 2 lines: leave the secret alone in it, on one line",
    ),
    "old line ends": (b"one\rs3cr3t\r", "which has 2 lines: leave the secret alone in it, on one line"),
    "NUL": (b"s3c\0r3t", "which contains a control character, such as NUL: remove it"),
    "tab": (b"s3cr3t\tx", "which contains a control character, such as NUL: remove it"),
    "UTF-16": ("s3cr3t".encode("utf-16"), "which cannot be read as UTF-8: save it as UTF-8 text"),
    "LATIN1": ("s3cr3t-ä".encode("latin-1"), "which cannot be read as UTF-8: save it as UTF-8 text"),
    "empty": (b" \n", "which is empty: write the secret into it"),
}


@pytest.mark.parametrize(("content", "problem"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_file_that_holds_more_than_a_secret_is_refused_by_name(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(SecretUnreadable) as refused:
        read_secret(VARIABLE, tmp_path / "key")
    assert str(refused.value) == f"{VARIABLE} is {str(tmp_path / 'key')!r}, {problem}"


@pytest.mark.parametrize("path", ["postgresql://app:s3cr3t@h/b", "s3cr3t", "host=h password=s3cr3t", "s3cr3t" * 100])
def test_a_secret_in_place_of_the_name_of_its_file_is_not_shown(path: str) -> None:
    with pytest.raises(
        SecretUnreadable, match="is no absolute path, and is not shown because it may be a secret"
    ) as refused:
        read_secret(VARIABLE, path)
    assert "s3cr3t" not in str(refused.value)


@given(before=st.binary(max_size=20), after=st.binary(max_size=20))
@settings(max_examples=300, deadline=None)
@example(before=b"postgresql://app:", after=b"@[::1/b")
@example(before=b"postgresql://app:one@h/b\n# was: postgresql://app:", after=b"@h/b")
async def test_nothing_that_is_logged_contains_what_a_file_holds(before: bytes, after: bytes) -> None:
    async def rotate(value: str) -> None:
        libpq_url(value)
        raise ValueError(f"a bug of a library that quotes {value}")

    with TemporaryDirectory() as folder, structlog.testing.capture_logs() as logs:
        file = Path(folder) / "url"
        file.write_bytes(before + b"S3cr3tMARKER" + after)
        await Rotation([MountedSecret(VARIABLE, file, OLD)], {VARIABLE: rotate}, clock=FakeClock()).look()
        assert logs
        assert "S3cr3tMARKER" not in repr(logs)


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
