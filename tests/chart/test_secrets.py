"""Database and API key: from Secrets only, as files that follow a rotation; proxy and private CA, for the model's API."""

from base64 import b64encode

import pytest

from tests.support.chart import DATABASE, Helm, Json, Objects, settings_of, workers_template

URL = "postgresql://user:secret@db.example/yellow_book"
DATABASE_FOLDER = "/etc/embedding-operator/database"
VARIABLES = {"gemini": "GEMINI_API_KEY", "openai": "OPENAI_API_KEY"}
"""The variables of the API keys, by their group of values."""
CA_FILE = "/etc/embedding-operator/ca/ca.crt"


def volume(rendered: Objects, name: str) -> Json:
    (found,) = [volume for volume in rendered.pod()["volumes"] if volume["name"] == name]
    return {key: value for key, value in found.items() if key != "name"}


def mount(rendered: Objects, name: str) -> Json:
    (found,) = [mount for mount in rendered.container()["volumeMounts"] if mount["name"] == name]
    return {key: value for key, value in found.items() if key != "name"}


def test_a_secret_of_the_users_is_mounted_and_none_is_made(helm: Helm) -> None:
    rendered = helm.render({"database": {"existingSecret": "mine", "existingSecretKey": "uri"}})
    assert volume(rendered, "database") == {
        "secret": {"secretName": "mine", "items": [{"key": "uri", "path": "DATABASE_URL"}]}
    }
    assert mount(rendered, "database") == {"mountPath": DATABASE_FOLDER, "readOnly": True}
    assert rendered.environment()["DATABASE_URL_FILE"] == f"{DATABASE_FOLDER}/DATABASE_URL"
    assert rendered.of("Secret") == []


def test_a_url_becomes_a_secret_and_is_nowhere_else(helm: Helm) -> None:
    rendered = helm.render({"database": {"url": URL}})
    assert rendered.secret("embedding-operator-database") == {"DATABASE_URL": URL}
    assert volume(rendered, "database")["secret"] == {
        "secretName": "embedding-operator-database",
        "items": [{"key": "DATABASE_URL", "path": "DATABASE_URL"}],
    }
    encoded = b64encode(URL.encode()).decode()
    assert [found["kind"] for found in rendered if encoded in str(found) or "secret@" in str(found)] == ["Secret"]


def test_a_secret_reads_as_it_was_written(helm: Helm) -> None:
    """stringData is never returned, so a tool that compares objects would always see a difference."""
    keys = {group: {"apiKey": "k"} for group in VARIABLES}
    values = {"database": {}, **keys, "postgresql": {"enabled": True, "password": "x"}}
    made = helm.render(values).of("Secret")
    assert len(made) == 4
    assert not any("stringData" in secret for secret in made)


def test_the_key_of_a_users_secret_is_not_used_for_the_charts_secret(helm: Helm) -> None:
    rendered = helm.render({"database": {"url": URL, "existingSecretKey": "uri"}, "gemini": {"apiKey": "k"}})
    keys = [volume(rendered, name)["secret"]["items"][0]["key"] for name in ("database", "gemini")]
    assert keys == ["DATABASE_URL", "GEMINI_API_KEY"]


@pytest.mark.parametrize(("group", "variable"), VARIABLES.items())
def test_without_a_key_nothing_is_mounted_for_a_provider(helm: Helm, group: str, variable: str) -> None:
    rendered = helm.render()
    assert f"{variable}_FILE" not in rendered.environment()
    assert group not in {volume["name"] for volume in rendered.pod()["volumes"]}
    assert group not in {mount["name"] for mount in rendered.container()["volumeMounts"]}


@pytest.mark.parametrize(("group", "variable"), VARIABLES.items())
@pytest.mark.parametrize(
    ("values", "secret", "key"),
    [
        ({"existingSecret": "mine"}, "mine", None),
        ({"existingSecret": "mine", "existingSecretKey": "api-key"}, "mine", "api-key"),
        ({"apiKey": "s3cret"}, "embedding-operator-{group}", None),
    ],
)
def test_an_api_key_is_mounted_as_the_url_is(
    helm: Helm, values: Json, secret: str, key: str | None, group: str, variable: str
) -> None:
    secret, folder = secret.format(group=group), f"/etc/embedding-operator/{group}"
    rendered = helm.render({group: values})
    assert volume(rendered, group) == {
        "secret": {"secretName": secret, "items": [{"key": key or variable, "path": variable}]}
    }
    assert mount(rendered, group) == {"mountPath": folder, "readOnly": True}
    assert rendered.environment()[f"{variable}_FILE"] == f"{folder}/{variable}"
    names = [found["metadata"]["name"] for found in rendered.of("Secret")]
    made = {name: rendered.secret(name) for name in names}
    assert made == ({} if secret == "mine" else {secret: {variable: "s3cret"}})


def test_a_rotation_reaches_a_running_pod(helm: Helm) -> None:
    """A subPath and a variable are never updated, and a checksum in the pod's annotations would restart the pod."""
    before = helm.render({"database": {"url": URL}, "gemini": {"apiKey": "a"}})
    after = helm.render({"database": {"url": URL + "_2"}, "gemini": {"apiKey": "b"}})
    assert before.of("Secret") != after.of("Secret")
    assert before.one("Deployment") == after.one("Deployment")
    assert not any("subPath" in mounted for mounted in before.container()["volumeMounts"])
    assert not any("secretKeyRef" in entry.get("valueFrom", {}) for entry in before.container()["env"])


def test_no_proxy_is_named_where_none_is_given(helm: Helm) -> None:
    assert {name for name in helm.render().environment() if "PROXY" in name} == set()


def test_a_proxy_is_never_used_for_the_api_server(helm: Helm) -> None:
    rendered = helm.render({"proxy": {"httpsProxy": "http://proxy.example:3128"}})
    assert {name: value for name, value in rendered.environment().items() if "PROXY" in name} == {
        "HTTPS_PROXY": "http://proxy.example:3128",
        "NO_PROXY": "$(KUBERNETES_SERVICE_HOST),localhost,127.0.0.1,.svc,.cluster.local",
    }


def test_hosts_without_proxy_are_a_value(helm: Helm) -> None:
    proxy = {"httpProxy": "http://proxy.example:3128", "noProxy": ["gemini.internal"]}
    environment = helm.render({"proxy": proxy}).environment()
    assert environment["HTTP_PROXY"] == "http://proxy.example:3128"
    assert environment["NO_PROXY"] == "$(KUBERNETES_SERVICE_HOST),gemini.internal"
    assert "HTTPS_PROXY" not in environment


@pytest.mark.parametrize("hosts", [[], None])
def test_without_other_hosts_only_the_api_server_is_reached_directly(each_helm: Helm, hosts: list[str] | None) -> None:
    proxy = {"httpProxy": "http://proxy.example:3128", "noProxy": hosts}
    assert each_helm.render({"proxy": proxy}).environment()["NO_PROXY"] == "$(KUBERNETES_SERVICE_HOST)"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"configMap": "corporate"}, {"configMap": {"name": "corporate"}}),
        ({"secret": "corporate"}, {"secret": {"secretName": "corporate"}}),
    ],
)
def test_a_private_ca_is_trusted_by_the_client_of_the_models_api(helm: Helm, values: Json, expected: Json) -> None:
    rendered = helm.render({"privateCA": {**values, "key": "root.pem"}})
    (source,) = expected.values()
    source["items"] = [{"key": "root.pem", "path": "ca.crt"}]
    assert volume(rendered, "private-ca") == expected
    assert mount(rendered, "private-ca") == {"mountPath": "/etc/embedding-operator/ca", "readOnly": True}
    environment = rendered.environment()
    assert {environment["REQUESTS_CA_BUNDLE"], environment["SSL_CERT_FILE"]} == {CA_FILE}


def test_without_a_private_ca_the_public_ones_are_trusted(helm: Helm) -> None:
    rendered = helm.render()
    assert not {"REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"} & set(rendered.environment())
    assert "private-ca" not in str(rendered.one("Deployment"))


# Keys that sources name.

KEYS = [
    {
        "secretName": "team-b",
        "key": "api-key",
        "endpoints": ["https://api.openai.com/v1"],
        "tokensPerMinute": 5_000_000,
    },
    {"secretName": "team-c", "key": "k", "endpoints": ["http://tei.search.svc:8080/v1"], "textsPerMinute": 0},
]
KEYS_FOLDER = "/etc/embedding-operator/api-keys"


def test_the_keys_that_sources_name_are_mounted_and_may_be_created_later(helm: Helm) -> None:
    rendered = helm.render({"apiKeys": KEYS})
    sources = volume(rendered, "api-keys")["projected"]["sources"]
    assert [source["secret"] for source in sources] == [
        {"name": name, "optional": True, "items": [{"key": key, "path": f"{name}/{key}"}]}
        for name, key in (("team-b", "api-key"), ("team-c", "k"))
    ]
    assert mount(rendered, "api-keys") == {"mountPath": KEYS_FOLDER, "readOnly": True}


def test_the_operator_reads_what_the_chart_declares_of_them(helm: Helm) -> None:
    declared = settings_of(helm.render({"apiKeys": KEYS})).api_keys
    assert [
        (key.ref, str(key.file), key.endpoints, key.tokens_per_minute, key.texts_per_minute) for key in declared
    ] == [
        ("team-b/api-key", f"{KEYS_FOLDER}/team-b/api-key", ("https://api.openai.com/v1",), 5_000_000, None),
        ("team-c/k", f"{KEYS_FOLDER}/team-c/k", ("http://tei.search.svc:8080/v1",), None, None),
    ]


def test_without_such_keys_nothing_is_declared(helm: Helm) -> None:
    rendered = helm.render()
    assert "EMBEDDING_API_KEYS" not in rendered.environment()
    assert "api-keys" not in {volume["name"] for volume in rendered.pod()["volumes"]}


def test_the_pods_of_workers_have_the_same_keys(helm: Helm) -> None:
    rendered = helm.render({"apiKeys": KEYS, "backfill": {"workers": {"enabled": True}}})
    assert KEYS_FOLDER in str(workers_template(rendered))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            [KEYS[0], KEYS[0]],
            'apiKeys contains key "api-key" of Secret "team-b" twice: write all of its endpoints in one item',
        ),
        ([KEYS[0] | {"endpoints": ["tei:8080"]}], 'key "team-b/api-key" to be sent to "tei:8080", which is no address'),
        (
            [KEYS[0] | {"endpoints": ["https://u:s3cret@tei"]}],
            "to be sent to an address, which is no address of a server",
        ),
        ([KEYS[0] | {"endpoints": []}], "endpoints"),
        ([KEYS[0] | {"secretName": "Team B"}], 'apiKeys.0.secretName is "Team B", which is no name of an object'),
        ([KEYS[0] | {"key": "a b"}], 'apiKeys.0.key is "a b", which is no key of a Secret'),
    ],
)
def test_a_key_that_can_not_be_declared_so_is_refused(helm: Helm, keys: list[Json], said: str) -> None:
    message = helm.refusal({**DATABASE, "apiKeys": keys})
    assert said in message
    assert "s3cret" not in message


def test_a_port_that_the_network_policy_would_block_is_refused(helm: Helm) -> None:
    message = helm.refusal({**DATABASE, "apiKeys": KEYS, "networkPolicy": {"enabled": True}})
    assert (
        "networkPolicy.egressPorts does not contain 8080, the port of http://tei.search.svc:8080/v1 in apiKeys"
        in message
    )
