"""Real pods: a cluster that runs them, the images of this checkout, and two releases of the chart as users install it.

The first release installs the CRDs and a development PostgreSQL. The second, in another namespace, uses an existing database
server, with a role that has the documented rights only.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hack.cluster_choice.pods import NoPods, PodCluster, cluster_with_pods
from hack.installation.kubectl import Kubectl, forward_port
from tests.support.installed import DATABASE, DEPLOYMENT, PASSWORD, Release
from tests.support.yellow_book import YellowBook, make_yellow_book

ROLE, ROLE_PASSWORD = "embedding_operator", "the-first-one"
RELEASES = ("yellow-book", "second")
FOLDER = Path(__file__).parents[2] / ".run" / "e2e"
STATE: dict[str, PodCluster] = {}
JOBS_ARE_KEPT = "settings.finishedJobSeconds=86400"
"""No job is removed for its age, because tests compare jobs with those of before."""
SOURCE = Path(__file__).parents[2] / "docs" / "examples" / "businesses.yaml"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(1800))  # the first of them waits for all builds


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the state of the cluster to the report of a failure, because the cluster is gone when the report is read."""
    report = yield
    if report.failed and (cluster := STATE.get("cluster")) is not None:
        kubectl = Kubectl(cluster.cluster)
        for command in (
            ("get", "pods,embeddingsources", "--all-namespaces", "-o", "wide"),
            ("get", "events", "--all-namespaces", "--field-selector=type!=Normal"),
            *(("logs", f"deployment/{name}-{DEPLOYMENT}", f"--namespace={name}", "--tail=30") for name in RELEASES),
        ):
            shown = kubectl.try_run(*command)
            report.sections.append((f"kubectl {' '.join(command)}", shown.stdout + shown.stderr))
    return report


@pytest.fixture(scope="session")
def pods(request: pytest.FixtureRequest) -> Iterator[PodCluster]:
    """Tests are skipped, with the reason, if no cluster with pods can be started."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:  # shown at once, because the steps take minutes
        with capture.global_and_fixture_disabled():
            print(f"• {line}", flush=True)

    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(cluster_with_pods(FOLDER, name="embedding-operator-e2e", say=say))
        except NoPods as exc:
            pytest.skip(str(exc))
        STATE["cluster"] = cluster
        say(f"cluster: {cluster.cluster.origin}")
        say("building the operator's image, unless it is built already")
        cluster.load_operator_image()
        say("the image is built; next, the chart is installed")
        yield cluster
        del STATE["cluster"]


@pytest.fixture(scope="session")
def yellow_book(pods: PodCluster) -> Release:
    """Installed by Helm 4 with `--wait`, with the chart's own development PostgreSQL."""
    values = ["postgresql.enabled=true", f"postgresql.password={PASSWORD}", f"postgresql.database={DATABASE}"]
    values += ["backfill.workers.enabled=true", JOBS_ARE_KEPT]
    flags = (*(f"--set={value}" for value in values), *pods.load_postgresql_image())
    release = Release(RELEASES[0], RELEASES[0], pods, "helm4", flags)
    release.install()
    return release


@pytest.fixture(scope="session")
def server_url(yellow_book: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the development PostgreSQL from outside of the cluster, without the name of a database."""
    folder = tmp_path_factory.mktemp("forwarded")
    with forward_port(yellow_book.kubectl, f"{yellow_book.fullname}-postgresql", 5432, folder) as port:
        yield f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}"


@pytest.fixture(scope="session")
def book(yellow_book: Release, server_url: str) -> YellowBook:
    """The first release's table with its source: all rows are fresh."""
    book = make_yellow_book(f"{server_url}/{DATABASE}")
    book.add(200)
    yellow_book.kubectl.run("apply", "-f", str(SOURCE))
    yellow_book.wait_for("condition=Fresh", "embeddingsource/businesses")
    return book


@pytest.fixture(scope="session")
def second(pods: PodCluster, yellow_book: Release, server_url: str) -> Release:
    """Installed by Helm 3, without CRDs, for a role with just the rights that the README grants."""
    admin = YellowBook(f"{server_url}/postgres")
    admin.run(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE_PASSWORD}'")
    admin.run("CREATE DATABASE second")
    owner = YellowBook(f"{server_url}/second")
    owner.run("CREATE EXTENSION vector")
    book = make_yellow_book(f"{server_url}/second")
    book.add(50)
    owner.run(f"GRANT CREATE ON DATABASE second TO {ROLE}")
    owner.run(f"GRANT SELECT, TRIGGER, UPDATE (embedding) ON public.businesses TO {ROLE}")
    values = ["crds.install=false", "database.existingSecret=the-database", "database.existingSecretKey=url"]
    values += ["gemini.existingSecret=the-key", "gemini.existingSecretKey=key", JOBS_ARE_KEPT]
    release = Release(RELEASES[1], RELEASES[1], pods, "helm3", tuple(f"--set={value}" for value in values))
    release.kubectl.run("create", "namespace", release.namespace)
    release.kubectl.run("create", "secret", "generic", "the-database", f"--from-literal=url={role_url(yellow_book)}")
    release.kubectl.run("create", "secret", "generic", "the-key", "--from-literal=key=the-first-key")
    release.install()
    return release


@pytest.fixture(scope="session")
def second_book(second: Release, server_url: str) -> YellowBook:
    second.kubectl.run("apply", "-f", str(SOURCE))
    second.wait_for("condition=Fresh", "embeddingsource/businesses")
    return YellowBook(f"{server_url}/second")


def role_url(yellow_book: Release, password: str = ROLE_PASSWORD) -> str:
    """The second database as the second release's pods reach it."""
    host = f"{yellow_book.fullname}-postgresql.{yellow_book.namespace}.svc"
    return f"postgresql://{ROLE}:{password}@{host}:5432/second"
