"""What Python and PostgreSQL each compute of a text is the same: its hash, and whether it is blank."""

import random
import sys

import pytest

from embedding_worker.rows.derived_table import BLANK, HASH
from embedding_worker.text import content_hash, is_blank
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application

SPACES = " \t\n\r\f\v\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2003\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
TEXTS = [
    "",
    *SPACES,
    SPACES,
    " \t\n\r\f\v",
    " \t\n\r\f\vx \t\n\r\f\v",
    "name",
    'O\'Hara \\ "quoted" %s $1 {}',
    "e\u0301 and \u00e9",
    "鮨処 まつ葉 🍣👩‍👩‍👧‍👦",
    "عيادة الواحة",
    "\x01\x7f\ud7ff\ue000\uffff\U0010ffff",
    "a" * 100_000,
]


def random_texts() -> list[str]:
    chosen = random.Random(20_26)  # noqa: S311
    alphabet = [chr(n) for n in range(1, sys.maxunicode + 1, 97) if not 0xD800 <= n < 0xE000] + list(SPACES) * 20
    return ["".join(chosen.choices(alphabet, k=chosen.randrange(8))) for _ in range(5_000)]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return TEXTS + random_texts()


def test_hash_and_blankness_of_a_text_are_the_same_on_both_sides(application: Application, texts: list[str]) -> None:
    found = application.run(
        f"SELECT {HASH}, {BLANK} FROM unnest(%s::text[]) WITH ORDINALITY AS x(eo_text, n) ORDER BY n", texts
    )
    assert found == [(content_hash(text), is_blank(text)) for text in texts]
    assert 0 < sum(blank for _, blank in found) < len(found)


async def test_a_text_comes_out_of_the_table_as_it_went_in(
    businesses: Application, keep: Keep, texts: list[str]
) -> None:
    keeper, _ = await keep(text="name")
    businesses.run(
        "INSERT INTO businesses (id, name) SELECT n, t FROM unnest(%s::text[]) WITH ORDINALITY u(t, n)", texts
    )
    rows = await keeper.read([str(n + 1) for n in range(len(texts))])
    assert [rows[str(n + 1)].text for n in range(len(texts))] == texts
