"""A kubeconfig is read as kubectl reads it, or is refused in a sentence that names what is not supported."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.api_access.access import Access, AccessRefused
from embedding_operator.api_access.kubeconfig import read_kubeconfig
from tests.support.kubeconfigs import SERVER, kubeconfig, write

MARKER = "secret-that-must-not-be-shown"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def read(folder: Path, **parts: Any) -> Access:
    return read_kubeconfig(str(write(folder / "kubeconfig", kubeconfig(**parts))))


def refusal(folder: Path, **parts: Any) -> str:
    with pytest.raises(AccessRefused) as raised:
        read(folder, **parts)
    assert MARKER not in str(raised.value)
    return str(raised.value)


def test_the_current_context_says_where_and_as_whom(tmp_path: Path) -> None:
    access = read(tmp_path, user={"token": "t"}, context={"namespace": "yellow-book"})
    assert access == Access(SERVER, "yellow-book", authorization="Bearer t")


@pytest.mark.parametrize("form", ["data", "file", "relative"])
def test_certificates_may_be_data_or_files_beside_the_kubeconfig(tmp_path: Path, form: str) -> None:
    keys = {"certificate-authority": "authority", "client-certificate": "mine", "client-key": "key"}
    for name in keys.values():
        (tmp_path / name).write_text(f"the {name}")
    folder = "" if form == "relative" else f"{tmp_path}/"
    values = {
        f"{key}-data" if form == "data" else key: encoded(f"the {name}") if form == "data" else f"{folder}{name}"
        for key, name in keys.items()
    }
    access = read(tmp_path, cluster=values, user=values)
    assert access.authority == "the authority"
    assert access.certificate is not None
    assert (access.certificate.certificate, access.certificate.key) == ("the mine", "the key")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({"token": "t"}, "Bearer t"),
        ({"tokenFile": "token"}, "Bearer of the file"),
        ({"token": "t", "tokenFile": "token"}, "Bearer of the file"),
        ({"username": "me", "password": "p:w"}, f"Basic {encoded('me:p:w')}"),
        ({}, None),
    ],
)
def test_each_kind_of_credentials_becomes_its_header(tmp_path: Path, user: dict[str, Any], expected: str) -> None:
    (tmp_path / "token").write_text("of the file\n")
    assert read(tmp_path, user=user).authorization == expected


def test_a_context_without_a_user_sends_no_credentials(tmp_path: Path) -> None:
    assert read(tmp_path, user={"token": "t"}, context={"user": ""}).authorization is None


def test_the_name_of_the_certificate_the_proxy_and_no_verification_are_kept(tmp_path: Path) -> None:
    assert read(tmp_path, cluster={"tls-server-name": "kubernetes"}).server_name == "kubernetes"
    assert read(tmp_path, cluster={"proxy-url": "http://proxy:3128"}).proxy == "http://proxy:3128"
    assert read(tmp_path, cluster={"insecure-skip-tls-verify": True}).verify is False


def test_the_path_of_a_server_behind_a_gateway_is_kept(tmp_path: Path) -> None:
    access = read(tmp_path, cluster={"server": "https://rancher.example/k8s/clusters/c-1/"})
    assert access.host == "https://rancher.example/k8s/clusters/c-1"


def test_of_several_contexts_the_current_one_is_used(tmp_path: Path) -> None:
    content = kubeconfig(user={"token": "t"})
    content["clusters"].append({"name": "c2", "cluster": {"server": "https://192.0.2.2"}})
    content["contexts"].append({"name": "x2", "context": {"cluster": "c2", "user": "u"}})
    content["current-context"] = "x2"
    assert read_kubeconfig(str(write(tmp_path / "kubeconfig", content))).host == "https://192.0.2.2"


def test_a_context_that_is_named_is_used_instead_of_the_current_one(tmp_path: Path) -> None:
    content = kubeconfig(user={"token": "t"})
    content["contexts"].append({"name": "x2", "context": {"cluster": "c", "user": "u", "namespace": "other"}})
    path = str(write(tmp_path / "kubeconfig", content))
    assert read_kubeconfig(path, context="x2").namespace == "other"
    with pytest.raises(AccessRefused, match="it has no context 'x3': it has x, x2"):
        read_kubeconfig(path, context="x3")


@pytest.mark.parametrize(("mode", "terminal"), [("Always", True), ("IfAvailable", True), ("Never", False)])
def test_a_plugin_may_use_the_terminal_of_a_person_unless_it_says_never(
    tmp_path: Path, mode: str, terminal: bool
) -> None:
    user = {"exec": {"apiVersion": V1, "command": "x", "interactiveMode": mode}}
    path = str(write(tmp_path / "kubeconfig", kubeconfig(user=user)))
    found = read_kubeconfig(path, terminal=True).plugin
    assert found is not None
    assert found.terminal is terminal


def test_of_several_files_the_first_one_wins_and_missing_ones_are_left_out(tmp_path: Path) -> None:
    first = kubeconfig(cluster={"server": "https://192.0.2.2"})
    first["users"] = []
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "token").write_text("beside the second")
    second = kubeconfig(user={"tokenFile": "token"}, context={"namespace": "second"})
    paths = [tmp_path / "missing", write(tmp_path / "first", first), write(tmp_path / "b" / "second", second)]
    access = read_kubeconfig(os.pathsep.join(map(str, paths)))
    assert (access.host, access.namespace, access.authorization) == (
        "https://192.0.2.2",
        None,
        "Bearer beside the second",
    )


def test_a_plugin_is_told_of_the_cluster_where_it_asks_for_it(tmp_path: Path) -> None:
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "./login",
        "args": ["--quiet", 7],
        "env": [{"name": "PROFILE", "value": MARKER}],
        "interactiveMode": "IfAvailable",
        "provideClusterInfo": True,
    }
    cluster = {"certificate-authority-data": encoded("ca"), "extensions": [extension]}
    found = read(tmp_path, cluster=cluster, user={"exec": plugin}).plugin
    assert found is not None
    assert (found.command, found.arguments, found.variables) == ("./login", ("--quiet", "7"), (("PROFILE", MARKER),))
    assert found.folder == tmp_path
    assert dict(found.cluster or ()) == {
        "server": SERVER,
        "certificate-authority-data": encoded("ca"),
        "config": {"audience": "a"},
    }
    assert MARKER not in repr(found)


V1 = "client.authentication.k8s.io/v1"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"user": {"auth-provider": {"name": "oidc", "config": {"id-token": MARKER}}}}, "auth-provider 'oidc'"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, "use an exec plugin"),
        ({"user": {"as": "admin", "token": MARKER}}, "the field 'as', and impersonation is not supported"),
        ({"user": {"as-groups": ["system:masters"]}}, "the field 'as-groups'"),
        ({"user": {"exec": {"apiVersion": f"{V1}alpha1", "command": "x"}}}, "the apiVersion"),
        ({"user": {"exec": {"command": "x"}}}, "the apiVersion None: use client.authentication.k8s.io/v1 or"),
        ({"user": {"exec": {"apiVersion": V1}}}, "has no command"),
        ({"user": {"exec": {"apiVersion": V1, "command": "x", "interactiveMode": "Always"}}}, "needs a terminal"),
        ({"user": {"exec": {"apiVersion": V1, "command": "x", "env": [MARKER]}}}, "no usable form"),
        ({"user": {"tokenFile": "nowhere"}}, "nowhere', which cannot be read (FileNotFoundError)"),
        ({"user": {"token": 7}}, "a token that is no string"),
        ({"user": {"client-certificate-data": encoded("c")}}, "only one of client-certificate and client-key"),
        ({"user": {"client-key-data": "%"}}, "client-key-data that is no base64"),
        ({"cluster": {"proxy-url": "socks5://proxy:1080"}}, "no http:// or https:// URL"),
        ({"cluster": {"proxy-url": "http://proxy", "tls-server-name": "n"}}, "remove one"),
        (
            {"cluster": {"certificate-authority-data": encoded("c"), "insecure-skip-tls-verify": True}},
            "remove one of the two",
        ),
        ({"cluster": {"server": "192.0.2.1"}}, "its server '192.0.2.1' is not a URL"),
        ({"context": {"cluster": "other"}}, "it has no cluster 'other'"),
        ({"context": {"user": "other"}}, "it has no user 'other'"),
    ],
)
def test_what_is_not_supported_or_wrong_is_named(tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    assert said in refusal(tmp_path, **parts)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "hello",
        "{",
        f"users: [{{user: {{token: {MARKER}}}}}\nclusters:",
        "current-context: x",
        "current-context: {}",
    ],
)
def test_what_is_no_kubeconfig_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(AccessRefused, match="it cannot be used to connect: ") as raised:
        read_kubeconfig(str(path))
    assert MARKER not in str(raised.value)


def test_a_missing_file_is_named_as_missing() -> None:
    with pytest.raises(AccessRefused, match="there is no such file"):
        read_kubeconfig("/nonexistent/kubeconfig")


def test_an_access_does_not_show_its_secrets(tmp_path: Path) -> None:
    user = {"token": MARKER, "client-certificate-data": encoded("c"), "client-key-data": encoded(MARKER)}
    access = read(tmp_path, user=user, cluster={"proxy-url": f"http://me:{MARKER}@proxy"})
    assert MARKER not in repr(access)
    assert yaml.safe_load((tmp_path / "kubeconfig").read_text())["users"][0]["user"]["token"] == MARKER
