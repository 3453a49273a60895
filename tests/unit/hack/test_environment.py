"""What the development tools read from the environment, and what they withhold from the programs that they start."""

from pathlib import Path

import pytest

from embedding_operator.settings import PREFIX, variables
from hack.processes import environment


@pytest.mark.parametrize(
    "name",
    [
        "DATABASE_URL",
        "DATABASE_URL_FILE",
        "GEMINI_API_KEY",
        "GEMINI_API_KEY_FILE",
        "KUBECONFIG",
        "PGHOST",
        "PGPASSWORD",
        "EMBEDDING_LOG_LEVEL",
    ],
)
def test_programs_get_no_setting_of_an_operator(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "real")
    assert name not in environment.program_environment()


def test_no_variable_of_the_operator_or_of_a_provider_is_passed_on() -> None:
    read = {name: "real" for name in variables() if name.startswith(PREFIX) or "KEY" in name or "DATABASE" in name}
    assert len(read) > 10
    assert environment.without_operator_settings(read) == {}


def test_programs_get_all_other_variables() -> None:
    kept = {"PATH": "/bin", "HOME": "/home/me", "HTTPS_PROXY": "http://proxy", "MY_DATABASE_URL": "x", "XPG": "y"}
    assert environment.without_operator_settings(kept | {"KUBECONFIG": "z"}) == kept


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLUSTER_KUBECONFIG", "KUBEBUILDER_ASSETS", "KIND_NODE_IMAGE", "TEST_DATABASE_URL"):
        monkeypatch.setenv(name, "")
    assert environment.cluster_kubeconfig() is None
    assert environment.kubebuilder_assets() is None
    assert environment.kind_node_image() is None
    assert environment.test_database_url() is None


def test_a_path_is_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER_KUBECONFIG", "some/file")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", "some/folder")
    assert environment.cluster_kubeconfig() == Path.cwd() / "some" / "file"
    assert environment.kubebuilder_assets() == Path.cwd() / "some" / "folder"


@pytest.mark.parametrize("unset", ["", "relative/folder"])
def test_the_cache_is_in_the_xdg_folder(unset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert environment.cache_home() == Path("/elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", unset)
    assert environment.cache_home() == Path.home() / ".cache"
