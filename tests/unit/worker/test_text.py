"""What a row's text means: its hash, whether there is anything in it, and what a model's limit makes of it."""

import pytest

from embedding_worker.errors import InputRejected
from embedding_worker.source import TooLong
from embedding_worker.text import content_hash, fit_text, is_blank


def test_a_hash_is_the_sha256_of_the_utf8_bytes() -> None:
    assert content_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content_hash("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_every_difference_of_a_text_is_one_of_its_hash() -> None:
    texts = ["café", "cafe\u0301", "Café", "café ", " café", "cafe"]
    assert len({content_hash(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("text", ["", " ", "\t\n\r\f\v ", " " * 1000])
def test_a_text_without_anything_in_it_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["x", " x ", ".", "\u00a0", "\u3000", "\u200b", "\x00"])
def test_a_text_with_anything_in_it_is_not(text: str) -> None:
    assert not is_blank(text)


@pytest.mark.parametrize("too_long", TooLong)
@pytest.mark.parametrize("text", ["", "name", "12345678", "鮨処"])
def test_a_text_within_the_limit_stays_as_it_is(text: str, too_long: TooLong) -> None:
    assert fit_text(text, whole_bytes=len(text.encode()), max_bytes=8, too_long=too_long) == text


def test_a_longer_text_is_cut() -> None:
    assert fit_text("123456789", whole_bytes=len(b"123456789"), max_bytes=8, too_long=TooLong.TRUNCATE) == "12345678"


@pytest.mark.parametrize(
    ("max_bytes", "cut"),
    [(1, "a"), (2, "a"), (3, "aß"), (4, "aß"), (6, "aß鮨"), (9, "aß鮨"), (10, "aß鮨🍣"), (11, "aß鮨🍣z")],
)
def test_it_is_cut_between_two_characters_and_never_within_one(max_bytes: int, cut: str) -> None:
    assert (
        fit_text("aß鮨🍣zz", whole_bytes=len("aß鮨🍣zz".encode()), max_bytes=max_bytes, too_long=TooLong.TRUNCATE)
        == cut
    )


def test_a_longer_text_is_refused_where_the_source_says_so_with_both_numbers_and_without_the_text() -> None:
    with pytest.raises(InputRejected) as refused:
        fit_text("secret 鮨", whole_bytes=len("secret 鮨".encode()), max_bytes=8, too_long=TooLong.REFUSE)
    assert refused.value.reason == "TextTooLong"
    assert "has 10 bytes and the model accepts 8" in refused.value.message
    assert "spec.model.tooLong to Truncate" in refused.value.message
    assert "secret" not in refused.value.message


def test_the_beginning_of_a_longer_text_is_cut_by_the_bytes_of_the_model() -> None:
    assert fit_text("鮨🍣z", whole_bytes=11_000_000, max_bytes=7, too_long=TooLong.TRUNCATE) == "鮨🍣"


def test_a_text_of_which_only_the_beginning_was_read_is_refused_by_its_whole_size() -> None:
    with pytest.raises(InputRejected, match="has 11000000 bytes"):
        fit_text("x" * 9, whole_bytes=11_000_000, max_bytes=8, too_long=TooLong.REFUSE)
