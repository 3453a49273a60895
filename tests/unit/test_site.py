"""The pages of docs/ become a site (`make docs`): strictly, with the same blocks as on GitHub, and without requests to others."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from hack.processes.run import run_to_end
from hack.repository import ROOT
from hack.site.hooks import indented_lists, with_links_to_the_repository

PAGES = sorted((ROOT / "docs").glob("*.md"))
GITHUB = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def build(config: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        config,
        "--site-dir",
        site,
    ]
    return run_to_end(command, within_s=100, settings={"NO_MKDOCS_2_WARNING": "1"}, cwd=ROOT)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    return folder


class Blocks(HTMLParser):
    """The blocks of a page in their order; those of code with their text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_code = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._in_code = self._in_code or tag == "pre"
        if tag in ("pre", "table", "tr", "ol", "ul", "li", "h1", "h2", "h3"):
            self.found.append(f"{tag} ")

    def handle_endtag(self, tag: str) -> None:
        self._in_code = self._in_code and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._in_code:
            self.found[-1] += data


def article(page: Path) -> str:
    (found,) = re.findall(r"<article.*?</article>", page.read_text(), re.DOTALL)
    return str(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_site_shows_a_page_as_github_does(site: Path, page: Path) -> None:
    shown = Blocks(article(site / f"{page.stem}.html")).found
    assert [block.strip() for block in shown] == [
        block.strip() for block in Blocks(GITHUB.render(page.read_text())).found
    ]


def test_the_site_needs_no_other_server(site: Path) -> None:
    loads = re.compile(
        r"<(?:script|img|iframe|link(?=[^>]*stylesheet))\b[^>]*(?:src|href)=\"?https?:[^>]*>|@import|fonts\.g"
    )
    assert {found for page in site.glob("*.html") for found in loads.findall(page.read_text())} == set()


def test_each_wrong_link_fails_the_build(tmp_path: Path) -> None:
    wrong = ("nowhere.md", "index.md#missing", "#nothing", "../outside.md", "/absolute.md")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A page\n\n" + " ".join(f"[x]({link})" for link in wrong))
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT}/mkdocs.yml\nnav: [index.md]\nhooks: ['{ROOT}/hack/site/hooks.py']\n")
    done = build(config, tmp_path / "site")
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert done.returncode == 1
    assert [link for link in wrong if not any(f"'{link}'" in line for line in warnings)] == []


def test_a_link_out_of_docs_leads_to_the_repository() -> None:
    text = "[a](../README.md#try-it) [b](../charts) [c](../nothing.md) [d](install.md)"
    base = "https://github.com/yellowbook-dev/embedding-operator"
    assert with_links_to_the_repository(text, ROOT / "docs") == (
        f"[a]({base}/blob/main/README.md#try-it) [b]({base}/tree/main/charts) [c](../nothing.md) [d](install.md)"
    )


def test_what_belongs_to_an_item_is_indented_by_four_and_nothing_else_is_moved() -> None:
    text = "1. a\n\n   ```sql\n   SELECT 1\n   ```\n- b\n  goes on\n\n      code\n\ntext\n\n    code\n```yaml\n- a:\n  - b\n```\n"
    moved = "1. a\n\n    ```sql\n    SELECT 1\n    ```\n- b\n    goes on\n\n        code\n"
    assert indented_lists(text) == f"{moved}\ntext\n\n    code\n```yaml\n- a:\n  - b\n```\n"
