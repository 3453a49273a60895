"""A superuser who pastes the SQL of a page creates a role with all rights that the page's source needs, and no others."""

import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import pytest
import yaml

from embedding_operator.resources.embedding_source import parse_source
from embedding_worker.rows.database import Database
from embedding_worker.source import SourceConfig
from hack.cluster_choice.choice import Cluster
from hack.database.embedded_postgres import installed_programs
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import unique_name
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import temporary_namespace
from hack.processes.run import run_to_end
from hack.repository import ROOT
from tests.integration.test_command import command
from tests.support.deadline import wait_until
from tests.support.documented_sql import pasted, sql_blocks
from tests.support.kept_rows import DIMENSIONS, Keeper
from tests.support.manifests import merged
from tests.support.yellow_book import TABLE

README, INSTALL = ROOT / "README.md", ROOT / "docs" / "install.md"
PAGES = {"README": (README, "Install it"), "docs/install.md": (INSTALL, "1. The database")}
SOURCE = yaml.safe_load((ROOT / "docs" / "examples" / "businesses.yaml").read_text())
METADATA = {"metadata": {"namespace": "any", "uid": "any", "generation": 1}}
FORBIDDEN = (
    "CREATE TABLE public.other (id int)",
    "UPDATE public.businesses SET name = 'x'",
    "INSERT INTO public.businesses (name) VALUES ('x')",
    "DELETE FROM public.businesses",
    "ALTER TABLE public.businesses ADD COLUMN x int",
)
NO_RIGHT_BY_DEFAULT = ("REVOKE ALL ON SCHEMA public FROM PUBLIC", 'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
NO_FUNCTIONS_BY_DEFAULT = (
    "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
    "ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC",
)
FUNCTIONS = "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO embedding_operator"
OTHER_SCHEMA = "GRANT USAGE ON SCHEMA extensions TO embedding_operator"


def run(url: str, *sql: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in sql:
            connection.execute(statement.encode())


def in_psql(url: str, text: str) -> None:
    """As it is typed or pasted: one statement after the other, until one fails."""
    done = run_to_end(
        [installed_programs() / "psql", url, "--no-psqlrc", "--set=ON_ERROR_STOP=1"], within_s=60, stdin=text
    )
    assert done.returncode == 0, done.stderr


def in_one_request(url: str, text: str) -> None:
    """As graphical clients and migration tools do it, in one transaction."""
    run(url, text)


def config() -> SourceConfig:
    """The README's source, with the short vectors of Keeper."""
    declared = parse_source(merged(SOURCE, METADATA)).spec.config()
    return replace(declared, model=replace(declared.model, dimensions=DIMENSIONS))


@dataclass(frozen=True)
class Pasted:
    """A database in which no role has any right by default, and in which the SQL of a page is pasted."""

    database: GivenDatabase
    role: str
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """The role's."""
        return self.database.url_for(self.role, self.password)

    def renamed(self, sql: str) -> str:
        return pasted(sql, role=self.role, database=self.database.name, password=self.password)

    def with_short_vectors(self, sql: str) -> str:
        return re.sub(r"vector\(\d+\)", f"vector({DIMENSIONS})", self.renamed(sql))

    def prepare(self, *sql: str) -> None:
        run(self.database.url, "DROP EXTENSION vector", *(it.format(database=self.database.name) for it in sql))
        run(self.database.url, TABLE.replace(", embedding vector(512)", ""))
        run(self.database.url, "INSERT INTO public.businesses (name) VALUES ('one'), ('two')")

    async def is_kept_fresh(self) -> None:
        """The operator, with the role's rights, gives each row its vector."""
        async with Database(self.url, max_connections=2) as database:
            keeper = await Keeper.prepare(database, config())
            assert await keeper.audit() == 2
            assert await keeper.keep() == 2
            assert (await keeper.store.counts()).due == 0


def block(page: str) -> str:
    path, heading = PAGES[page]
    return sql_blocks(path.read_text(), heading)[0]


@pytest.fixture
def given(database: GivenDatabase) -> Iterator[Pasted]:
    found = Pasted(database, unique_name("pasted"), secrets.token_hex(12))
    yield found
    run(database.url, f"DROP OWNED BY {found.role} CASCADE", f"DROP ROLE {found.role}")


@pytest.mark.parametrize("paste", [in_psql, in_one_request])
@pytest.mark.parametrize("page", PAGES)
async def test_the_role_has_all_rights_that_its_source_needs_and_no_others(
    given: Pasted, page: str, paste: Callable[[str, str], None]
) -> None:
    given.prepare(*NO_RIGHT_BY_DEFAULT)
    paste(given.database.url, given.with_short_vectors(block(page)))
    await given.is_kept_fresh()
    for statement in FORBIDDEN:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(given.url, statement)


async def test_where_functions_have_no_default_rights_one_more_grant_is_enough(given: Pasted) -> None:
    assert FUNCTIONS in INSTALL.read_text()
    given.prepare(*NO_RIGHT_BY_DEFAULT, *NO_FUNCTIONS_BY_DEFAULT)
    in_psql(given.database.url, given.with_short_vectors(f"{block('docs/install.md')}{FUNCTIONS};"))
    await given.is_kept_fresh()


async def test_where_the_extension_is_in_another_schema_one_more_grant_is_enough(given: Pasted) -> None:
    assert OTHER_SCHEMA in INSTALL.read_text()
    given.prepare(*NO_RIGHT_BY_DEFAULT, "CREATE SCHEMA extensions", "CREATE EXTENSION vector SCHEMA extensions")
    wanted = block("docs/install.md").replace(" vector(", " extensions.vector(")
    in_psql(given.database.url, given.with_short_vectors(f"{wanted}{OTHER_SCHEMA};"))
    await given.is_kept_fresh()


@pytest.fixture
def checked_source(crds: None, cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """The README's source in a namespace, and the kubeconfig of the operator's account there."""
    name = f"test-{secrets.token_hex(4)}"
    with temporary_namespace(cluster, name, tmp_path) as kubeconfig:
        Kubectl(cluster, name).run("apply", "-f", "-", stdin=yaml.safe_dump(SOURCE))
        yield kubeconfig


def test_with_the_readmes_role_and_source_every_check_passes(given: Pasted, checked_source: Path) -> None:
    given.prepare(*NO_RIGHT_BY_DEFAULT)
    in_psql(given.database.url, given.renamed(block("README")))

    def marks() -> set[str]:
        done = command("check", KUBECONFIG=str(checked_source), DATABASE_URL=given.url)
        return {line[0] for line in done.stdout.splitlines()}

    wait_until(lambda: marks() == {"✓"}, within_s=120, because="the account's Role was created")
