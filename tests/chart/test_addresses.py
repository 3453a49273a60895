"""Images, URLs, hosts and secrets that are given as values: what could not be used later is refused with a sentence."""

import pytest

from tests.support.chart import DATABASE, NO_CRDS, Helm, Json

NO_IMAGE = "which is no name of an image: write the registry and the name, in lower case and without spaces"
IMAGES: dict[str, tuple[Json, str]] = {
    "a tag": (
        {"repository": "ghcr.io/a/b:1.0"},
        "image.repository is ghcr.io/a/b:1.0, with a tag: write the tag into image.tag",
    ),
    "a tag behind a port": (
        {"repository": "registry:5000/b:1.0"},
        "image.repository is registry:5000/b:1.0, with a tag: write the tag into image.tag",
    ),
    "a digest": (
        {"repository": f"ghcr.io/a/b@sha256:{'0a' * 32}"},
        "image.repository contains @: write only the registry and the name, and a digest into image.digest",
    ),
    "a scheme": (
        {"repository": "https://user:s3cret@ghcr.io/a/b"},
        "image.repository begins with a scheme: write only the registry and the name, such as registry.example/name",
    ),
    "capitals": ({"repository": "ghcr.io/Acme/b"}, f'image.repository is "ghcr.io/Acme/b", {NO_IMAGE}'),
    "a space": ({"repository": "ghcr.io/a/b "}, f'image.repository is "ghcr.io/a/b ", {NO_IMAGE}'),
    "a slash at the end": ({"repository": "ghcr.io/a/"}, f'image.repository is "ghcr.io/a/", {NO_IMAGE}'),
    "a name in the tag": (
        {"tag": "b:1.0"},
        'image.tag is "b:1.0", which is no tag: write only what follows the colon in the name of the image',
    ),
    "a colon": ({"tag": ":1.0"}, 'image.tag is ":1.0", which is no tag'),
    "a space in the tag": ({"tag": "1.0 "}, 'image.tag is "1.0 ", which is no tag'),
    "a tag that is too long": ({"tag": "1" * 129}, "which is no tag"),
    "a digest as the tag": (
        {"tag": f"sha256:{'0a' * 32}"},
        f"image.tag is sha256:{'0a' * 32}, with a digest: write the digest into image.digest",
    ),
    "tag and digest": ({"tag": "1.0@sha256:00"}, "image.tag is 1.0@sha256:00, with a digest"),
}
USABLE_IMAGES = (
    "embedding-operator",
    "localhost:5000/embedding-operator",
    "ghcr.io/a/b_c/d.e--f",
    "Registry.Example:443/a",
)
NO_PROXY = (
    "is no URL of a proxy: write it as http://HOST:PORT, or https:// if the connection to the proxy itself uses TLS"
)
PROXIES: dict[str, tuple[str, str]] = {
    "no scheme": ("proxy:3128", f'proxy.httpsProxy is "proxy:3128", which {NO_PROXY}'),
    "a name only": ("proxy.example", f'proxy.httpsProxy is "proxy.example", which {NO_PROXY}'),
    "a space": ("http://proxy.example :3128", f'proxy.httpsProxy is "http://proxy.example :3128", which {NO_PROXY}'),
    "a line end": (
        "http://proxy.example:3128\n",
        f'proxy.httpsProxy is "http://proxy.example:3128\\n", which {NO_PROXY}',
    ),
    "another scheme": ("socks5://proxy.example:1080", f'is "socks5://proxy.example:1080", which {NO_PROXY}'),
    "no host": ("http://", f'proxy.httpsProxy is "http://", which {NO_PROXY}'),
    "a port": ("http://proxy.example:70000", f'is "http://proxy.example:70000", which {NO_PROXY}'),
    "a path": ("http://proxy.example/pac", f'is "http://proxy.example/pac", which {NO_PROXY}'),
    "a password without a scheme": ("user:s3cret@proxy.example:3128", f"proxy.httpsProxy {NO_PROXY}"),
    "a password with a slash": ("http://user:s3cret/x@proxy.example:3128", f"proxy.httpsProxy {NO_PROXY}"),
}
USABLE_PROXIES = (
    "http://proxy.example:3128",
    "HTTP://proxy",
    "https://user:p%40ss@proxy.example:3128/",
    "http://user:$(PASSWORD)@proxy.example",
    "http://[fd00::1]:3128",
    "http://10.0.0.7:65535",
)
NO_HOST = "which is no host: write a host, a domain, an address or an IPv4 network, each as an item of its own"
DIRECT: dict[str, tuple[str, str]] = {
    "a scheme": (
        "http://gemini.internal",
        'proxy.noProxy contains "http://gemini.internal", with a scheme: write only the host',
    ),
    "a wildcard": (
        "*.internal",
        'proxy.noProxy contains "*.internal", which matches no host: write .internal, which includes all hosts below it',
    ),
    "a space": ("a b", f'proxy.noProxy contains "a b", {NO_HOST}'),
    "two hosts": ("a,b", f'proxy.noProxy contains "a,b", {NO_HOST}'),
    "a path": ("a.internal/v1", f'proxy.noProxy contains "a.internal/v1", {NO_HOST}'),
    "a port": ("a.internal:0", f'proxy.noProxy contains "a.internal:0", {NO_HOST}'),
}
USABLE_DIRECT = (
    "*",
    "localhost",
    ".svc",
    ".svc.cluster.local.",
    "gemini.internal.:8443",
    "a.internal:8443",
    "10.0.0.7",
    "10.0.0.0/8",
    "::1",
    "fd00::7",
    "[::1]:8443",
    "my_host",
)
NO_SERVER = "is no address of a server: write it as https://HOST, without user, query and fragment"
OTHERS: dict[str, tuple[Json, str]] = {
    "an endpoint without a scheme": (
        {"gemini": {"endpoint": "gemini.example"}},
        f'gemini.endpoint is "gemini.example", which {NO_SERVER}',
    ),
    "an endpoint with a space": (
        {"gemini": {"endpoint": "https://gemini.example /v1"}},
        f'gemini.endpoint is "https://gemini.example /v1", which {NO_SERVER}',
    ),
    "an endpoint with a password": (
        {"gemini": {"endpoint": "https://user:s3cret@gemini.example"}},
        f"gemini.endpoint {NO_SERVER}",
    ),
    "an endpoint with a key": (
        {"gemini": {"endpoint": "https://gemini.example?key=s3cret"}},
        f"gemini.endpoint {NO_SERVER}",
    ),
    "a key of two words": (
        {"gemini": {"apiKey": "Bearer s3cret"}},
        "gemini.apiKey contains characters that no key contains, such as spaces: copy the key again",
    ),
    "a URL without a scheme": (
        {"database": {"url": "user:s3cret@db.example/yellow_book"}},
        "database.url is no URL of a database: write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
    ),
    "two URLs": (
        {"database": {"url": "postgresql://u:s3cret@h/d\n# was postgresql://u:s3cret2@h/d"}},
        "database.url contains a space or a line end: percent-encode the password, and write only one URL",
    ),
    "a password of two lines": (
        {"database": {}, "postgresql": {"enabled": True, "password": "s3cret\n"}},
        "postgresql.password contains a line end, which PostgreSQL's image would remove: write a password of one line",
    ),
    "the account of every namespace": (
        {"serviceAccount": {"name": "default"}},
        "serviceAccount.name is default, an account that every namespace has and no release can create: choose another",
    ),
}
BLOCKED: dict[str, tuple[Json, str]] = {
    "a proxy": (
        {"proxy": {"httpsProxy": "http://user:s3cret@proxy.example:3128/"}},
        "networkPolicy.egressPorts does not contain 3128, the port of proxy.httpsProxy: add it, or allow the connection with",
    ),
    "a proxy's default port": (
        {"proxy": {"httpProxy": "http://proxy.example"}},
        "networkPolicy.egressPorts does not contain 80, the port of proxy.httpProxy: add it",
    ),
    "an endpoint": (
        {"gemini": {"endpoint": "https://gemini.example:8443/v1"}},
        "networkPolicy.egressPorts does not contain 8443, the port of gemini.endpoint: add it",
    ),
}


def refusal(helm: Helm, values: Json) -> str:
    """Helm's message, which contains none of these secrets."""
    said = helm.refusal({**DATABASE, **NO_CRDS, **values})
    assert "s3cret" not in said
    return said


@pytest.mark.parametrize("group", ["image", "postgresql.image"])
@pytest.mark.parametrize(("image", "words"), IMAGES.values(), ids=IMAGES)
def test_an_image_that_no_kubelet_would_pull_is_refused(helm: Helm, group: str, image: Json, words: str) -> None:
    said = refusal(helm, {"image": image} if group == "image" else {"postgresql": {"image": image}})
    assert words.replace("image.", f"{group}.") in said


@pytest.mark.parametrize("repository", USABLE_IMAGES)
def test_an_image_is_accepted(helm: Helm, repository: str) -> None:
    assert helm.render({"image": {"repository": repository, "tag": "v1_2.3-rc.1"}}).container()["image"] == (
        f"{repository}:v1_2.3-rc.1"
    )


@pytest.mark.parametrize(("proxy", "words"), PROXIES.values(), ids=PROXIES)
def test_a_proxy_that_no_call_could_use_is_refused(each_helm: Helm, proxy: str, words: str) -> None:
    assert words in refusal(each_helm, {"proxy": {"httpsProxy": proxy}})
    assert words.replace("httpsProxy", "httpProxy") in refusal(each_helm, {"proxy": {"httpProxy": proxy}})


@pytest.mark.parametrize("proxy", USABLE_PROXIES)
def test_a_proxy_is_accepted(helm: Helm, proxy: str) -> None:
    assert helm.render({"proxy": {"httpsProxy": proxy}}).environment()["HTTPS_PROXY"] == proxy


@pytest.mark.parametrize(("host", "words"), DIRECT.values(), ids=DIRECT)
def test_a_host_that_would_match_nothing_is_refused(each_helm: Helm, host: str, words: str) -> None:
    assert words in refusal(each_helm, {"proxy": {"noProxy": ["localhost", host]}})


def test_the_usable_forms_of_a_host_are_accepted(helm: Helm) -> None:
    proxy = {"httpProxy": "http://proxy.example", "noProxy": list(USABLE_DIRECT)}
    assert helm.render({"proxy": proxy}).environment()["NO_PROXY"].split(",")[1:] == list(USABLE_DIRECT)


@pytest.mark.parametrize(("values", "words"), OTHERS.values(), ids=OTHERS)
def test_another_value_that_is_unusable_is_refused(each_helm: Helm, values: Json, words: str) -> None:
    assert words in refusal(each_helm, values)


@pytest.mark.parametrize(
    "url", ["postgres://u:p@h/d\n", "postgresql+psycopg://u@h/d", "host=db.example dbname=yellow_book"]
)
def test_the_operator_reads_other_forms_of_a_url_itself(helm: Helm, url: str) -> None:
    assert helm.render({"database": {"url": url}}).secret("embedding-operator-database") == {"DATABASE_URL": url}


@pytest.mark.parametrize(("values", "words"), BLOCKED.values(), ids=BLOCKED)
def test_a_policy_that_would_block_a_named_server_is_refused(each_helm: Helm, values: Json, words: str) -> None:
    on = {"networkPolicy": {"enabled": True}}
    assert words in refusal(each_helm, {**values, **on})
    assert each_helm.render({**values, "networkPolicy": {"enabled": True, "extraEgress": [{}]}}).of("NetworkPolicy")
    assert not each_helm.render(values).of("NetworkPolicy")


def test_with_a_proxy_a_policy_need_not_allow_the_endpoint(helm: Helm) -> None:
    through = {"proxy": {"httpsProxy": "https://proxy.example"}, "gemini": {"endpoint": "https://gemini.example:8443"}}
    assert helm.render({**through, "networkPolicy": {"enabled": True}}).of("NetworkPolicy")
