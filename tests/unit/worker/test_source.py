"""What belongs to a source by name: its book-keeping, what made a vector, and which configuration is in force."""

import itertools
import json
import re
from dataclasses import replace

import pytest

from embedding_worker.source import ChangeDetection, Model, SourceConfig, TableColumn, TooLong, in_force

NAMES = ["a", "businesses", "Our Businesses", "x" * 63, "x" * 62 + "y", "電話帳", "", "a_b", "a.b", '"']
SUFFIXES = ["_due", "_state", "_mark", "_ins", "_upd", "_due_id", "_due_edit", "_due_seq_seq", "_state_pkey"]


def all_names() -> list[TableColumn]:
    return [TableColumn(schema, table, "id", column) for schema, table, column in itertools.product(NAMES, repeat=3)]


def test_a_bookkeeping_name_leaves_room_for_every_suffix() -> None:
    longest = max(len(at.bookkeeping_name.encode()) for at in all_names())
    assert longest <= 49
    assert longest + max(map(len, SUFFIXES)) <= 63


def test_a_bookkeeping_name_is_plain() -> None:
    assert all(re.fullmatch(r"[a-z0-9_]*_[0-9a-f]{8}", at.bookkeeping_name) for at in all_names())


def test_a_bookkeeping_name_tells_what_it_belongs_to() -> None:
    at = TableColumn("public", "businesses", "id", "embedding")
    assert at.bookkeeping_name.startswith("businesses_embedding_")


def test_no_two_tables_or_columns_share_their_bookkeeping() -> None:
    names = [at.bookkeeping_name for at in all_names()]
    assert len(set(names)) == len(names)


def test_bookkeeping_belongs_to_table_and_column_whatever_the_id_is_called() -> None:
    assert TableColumn("s", "t", "id", "e").bookkeeping_name == TableColumn("s", "t", "key", "e").bookkeeping_name


def test_a_table_is_called_as_in_sql() -> None:
    assert str(TableColumn("public", "businesses", "id", "embedding")) == "public.businesses"


@pytest.mark.parametrize(
    ("model", "fingerprint"),
    [
        (Model("local", "use", 512), "use@512"),
        (
            Model("gemini", "gemini-embedding-001", 768, "RETRIEVAL_DOCUMENT"),
            "gemini-embedding-001@768/RETRIEVAL_DOCUMENT",
        ),
        (Model("another way to it", "gemini-embedding-001", 768), "gemini-embedding-001@768"),
        (Model("openai", "bge-m3", 1024, origin="tei:8080/v1"), "bge-m3@1024@tei:8080/v1"),
        (Model("openai", "bge-m3", 1024, same_vectors_as="bge@1024@old:80"), "bge@1024@old:80"),
    ],
)
def test_a_fingerprint_names_what_makes_a_vector(model: Model, fingerprint: str) -> None:
    assert model.fingerprint == fingerprint


AT = TableColumn("public", "businesses", "id", "embedding")
MODEL = Model("gemini", "gemini-embedding-001", 768, "RETRIEVAL_DOCUMENT")
BEFORE = SourceConfig(AT, "name", MODEL)
OTHERS = {
    "text": replace(BEFORE, text="concat_ws(' ', name, city)"),
    "model": replace(BEFORE, model=replace(MODEL, name="gemini-embedding-002")),
    "dimensions": replace(BEFORE, model=replace(MODEL, dimensions=1536)),
    "task type": replace(BEFORE, model=replace(MODEL, task_type=None)),
    "origin": replace(BEFORE, model=replace(MODEL, endpoint="http://tei:8080/v1", origin="tei:8080/v1")),
}
SAME_VECTORS = {
    "provider": replace(BEFORE, model=replace(MODEL, provider="vertex")),
    "another server that gives the same": replace(
        BEFORE,
        model=replace(
            MODEL,
            endpoint="http://tei/v1",
            origin="tei/v1",
            same_vectors_as="gemini-embedding-001@768/RETRIEVAL_DOCUMENT",
        ),
    ),
    "key": replace(BEFORE, model=replace(MODEL, api_key_ref="team-b/key")),
    "search texts": replace(BEFORE, model=replace(MODEL, query_prefix="query: ", query_task_type="RETRIEVAL_QUERY")),
    "too long": replace(BEFORE, model=replace(MODEL, too_long=TooLong.REFUSE)),
    "change detection": replace(BEFORE, change_detection=ChangeDetection.AUDIT),
}
each_other = pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
each_same = pytest.mark.parametrize("same", SAME_VECTORS.values(), ids=SAME_VECTORS.keys())


def test_a_signature_is_the_fingerprint_and_eight_digits_of_the_texts_hash() -> None:
    assert BEFORE.signature == "gemini-embedding-001@768/RETRIEVAL_DOCUMENT#82a3537f"


@each_other
def test_whatever_changes_a_vector_changes_the_signature(other: SourceConfig) -> None:
    assert other.signature != BEFORE.signature


@each_same
def test_what_changes_no_vector_leaves_the_signature(same: SourceConfig) -> None:
    assert same.signature == BEFORE.signature


def test_a_record_is_json_and_holds_what_the_vectors_follow_from() -> None:
    assert json.loads(BEFORE.as_record()) == {
        "text": "name",
        "provider": "gemini",
        "name": "gemini-embedding-001",
        "dimensions": 768,
        "task_type": "RETRIEVAL_DOCUMENT",
    }


@pytest.mark.parametrize("approved", ["", "anything"])
def test_the_first_configuration_needs_no_approval(approved: str) -> None:
    assert in_force(BEFORE, None, approved=approved) == (BEFORE, None)


def test_a_configuration_that_has_not_changed_goes_on() -> None:
    assert in_force(BEFORE, BEFORE.as_record(), approved="") == (BEFORE, None)


@each_other
def test_a_configuration_that_would_embed_again_waits_and_the_old_one_stays_in_force(other: SourceConfig) -> None:
    assert in_force(other, BEFORE.as_record(), approved="") == (BEFORE, other.signature)


@each_other
def test_one_that_is_approved_is_in_force(other: SourceConfig) -> None:
    assert in_force(other, BEFORE.as_record(), approved=other.signature) == (other, None)


@each_other
def test_approval_of_another_change_approves_nothing(other: SourceConfig) -> None:
    for approved in (BEFORE.signature, other.fingerprint, other.signature[:-1]):
        assert in_force(other, BEFORE.as_record(), approved=approved) == (BEFORE, other.signature)


def test_a_change_back_is_no_change() -> None:
    record, approved_meanwhile = BEFORE.as_record(), OTHERS["text"].signature
    assert in_force(BEFORE, record, approved=approved_meanwhile) == (BEFORE, None)


@each_same
def test_what_changes_no_vector_is_in_force_at_once(same: SourceConfig) -> None:
    assert in_force(same, BEFORE.as_record(), approved="") == (same, None)


def test_while_a_text_waits_settings_that_change_no_vector_apply_at_once() -> None:
    wanted = replace(
        OTHERS["text"], change_detection=ChangeDetection.AUDIT, model=replace(MODEL, too_long=TooLong.REFUSE)
    )
    running, waiting = in_force(wanted, BEFORE.as_record(), approved="")
    assert waiting == wanted.signature
    assert (running.text, running.change_detection, running.model.too_long) == (
        "name",
        ChangeDetection.AUDIT,
        TooLong.REFUSE,
    )
