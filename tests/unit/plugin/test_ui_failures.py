"""Whatever the API server answers, the page says what is wrong, shows what it knew before, and looks again."""

import pytest

from kubectl_embeddings.ui.poll import EVERY_S
from tests.support.fake_requests import source_body
from tests.support.page_stand import Stand, counts

WELL = source_body("shops", status=counts(10, 1, sent=0))


async def seen() -> Stand:
    stand = Stand()
    stand.show([WELL])
    await stand.poll.state()
    return stand


@pytest.mark.parametrize("failure", [ValueError("Expecting value"), KeyError("items"), RuntimeError("unknown")])
async def test_an_error_that_nobody_expects_is_shown(failure: Exception) -> None:
    stand = Stand()
    stand.failure = failure
    state = await stand.poll.state()
    assert [state[part]["problem"] for part in ("sources", "deadLetters", "openJobs")] == [
        f"an unexpected error: {type(failure).__name__}: {failure}"
    ] * 3


@pytest.mark.parametrize(
    "status", [{"conditions": [{"status": "True"}]}, {"rows": "none"}, {"jobs": {"deadLettered": "many"}}]
)
async def test_a_source_of_another_form_is_shown_as_the_problem_and_what_was_known_stays(status: object) -> None:
    stand = await seen()
    stand.show([WELL, source_body("odd") | {"status": status}])
    await stand.clock.advance(EVERY_S)
    state = await stand.poll.state()
    assert state["sources"]["problem"].startswith("what the API server has answered is not understood (")
    assert [one["name"] for one in state["sources"]["items"]] == ["shops"]
    stand.show([WELL])
    await stand.clock.advance(EVERY_S)
    assert (await stand.poll.state())["sources"]["problem"] == ""
