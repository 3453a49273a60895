"""The service account of a pod is read from its files, or what is missing is named."""

from pathlib import Path

import pytest

from embedding_operator.api_access.access import Access, AccessRefused
from embedding_operator.api_access.pod import pod_access


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a service account, in a pod."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    namespace = tmp_path / "namespace"
    monkeypatch.setattr("embedding_operator.settings.NAMESPACE_FILE", namespace)
    for name, content in (("token", "t\n"), ("ca.crt", "old\n"), ("namespace", "yellow-book")):
        (tmp_path / name).write_text(content)
    return tmp_path


def test_the_files_say_where_and_as_whom(account: Path) -> None:
    assert pod_access(account) == Access("https://10.96.0.1:443", "yellow-book", "old", authorization="Bearer t")


def test_an_address_of_version_6_is_put_into_brackets(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert pod_access(account).host == "https://[fd00::1]:443"


def test_files_that_the_kubelet_has_replaced_are_read_again(account: Path) -> None:
    (account / "token").write_text("later")
    (account / "ca.crt").write_text("old\nnew\n")
    access = pod_access(account)
    assert (access.authorization, access.authority) == ("Bearer later", "old\nnew")


@pytest.mark.parametrize("name", ["token", "ca.crt"])
@pytest.mark.parametrize(("content", "said"), [(None, r"cannot be read \(FileNotFoundError\)"), (b" ", "is empty")])
def test_a_file_that_is_missing_or_empty_is_named(account: Path, name: str, content: bytes | None, said: str) -> None:
    (account / name).unlink()
    if content is not None:
        (account / name).write_bytes(content)
    with pytest.raises(AccessRefused, match=rf"{name} {said}: give the pod a service account"):
        pod_access(account)


@pytest.mark.parametrize("name", ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"])
def test_outside_of_a_pod_a_kubeconfig_is_needed(account: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(AccessRefused, match="does not run in a pod: set KUBECONFIG"):
        pod_access(account)
