"""`kubectl embeddings suspend`, `resume`, `reconcile` and `approve` change what they name, and say what they have changed."""

from datetime import timedelta

import pytest

from embedding_operator.resources.base import timestamp
from embedding_operator.resources.embedding_source import RECONCILE_ANNOTATION
from kubectl_embeddings.approval import approve
from kubectl_embeddings.failures import DONE, FAILED, NotFound
from kubectl_embeddings.source_changes import reconcile, suspend
from tests.support.fake_clock import START, FakeClock, let_time_pass
from tests.support.fake_requests import FakeRequests, Printed, condition, source_body
from tests.support.manifests import Json

TOKEN = timestamp(START)
CHANGED = {
    "pendingFingerprint": "other@8#1234",
    "reembed": {"rows": 335, "estimatedCost": "0.1250"},
}


@pytest.mark.parametrize(("wanted", "said"), [(True, "suspended: no more jobs"), (False, "resumed: what became due")])
async def test_a_source_is_suspended_and_resumed_by_its_spec(wanted: bool, said: str) -> None:
    cluster, printed = FakeRequests(sources=[source_body("a", suspend=not wanted)]), Printed()
    assert await suspend(cluster, ["a"], printed.screen, wanted=wanted) == DONE
    assert cluster.writes == [("a", {"spec": {"suspend": wanted}})]
    assert printed.text.startswith(f"✓ a: {said}")


@pytest.mark.parametrize(("wanted", "said"), [(True, "it is suspended already"), (False, "it is not suspended")])
async def test_a_source_that_is_as_wanted_is_not_written(wanted: bool, said: str) -> None:
    cluster, printed = FakeRequests(sources=[source_body("a", suspend=wanted)]), Printed()
    assert await suspend(cluster, ["a"], printed.screen, wanted=wanted) == DONE
    assert (cluster.writes, printed.lines) == ([], [f"✓ a: {said}"])


async def test_nothing_is_suspended_where_one_name_is_wrong() -> None:
    cluster = FakeRequests(sources=[source_body("a")])
    with pytest.raises(NotFound):
        await suspend(cluster, ["a", "b"], Printed().screen, wanted=True)
    assert cluster.writes == []


async def test_a_reconcile_is_requested_by_the_annotation_with_the_present_time() -> None:
    cluster, printed = FakeRequests(sources=[source_body("a")]), Printed()
    assert await reconcile(cluster, ["a"], printed.screen, wait=None, clock=FakeClock()) == DONE
    assert cluster.writes == [("a", {"metadata": {"annotations": {RECONCILE_ANNOTATION: TOKEN}}})]
    assert printed.lines == ["✓ a: a sweep and an audit are requested"]


class Operator(FakeRequests):
    """A cluster whose operator has done what is requested when it has been looked at so often."""

    looks = 0
    done_after = 3

    async def source(self, name: str) -> Json:
        self.looks += 1
        if self.looks == self.done_after:
            self.change(name, {"status": {"lastHandledReconcileAt": TOKEN}})
        return await super().source(name)


async def test_with_wait_it_returns_when_the_operator_has_done_it() -> None:
    cluster, clock, printed = Operator(sources=[source_body("a")]), FakeClock(), Printed()
    work = reconcile(cluster, ["a"], printed.screen, wait=timedelta(minutes=1), clock=clock)
    assert await let_time_pass(clock, work) == DONE
    assert (cluster.looks, printed.lines) == (3, ["✓ a: the sweep and the audit are done"])


def by_somebody_else(token: str, *, handled: str) -> Json:
    """Their request in the annotation, and the one that the operator has handled last."""
    return {
        "metadata": {"annotations": {RECONCILE_ANNOTATION: token}},
        "status": {"lastHandledReconcileAt": handled},
    }


LATER, EARLIER = timestamp(START + timedelta(seconds=5)), timestamp(START - timedelta(seconds=5))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (by_somebody_else(LATER, handled=LATER), DONE),
        (by_somebody_else(timestamp(START + timedelta(seconds=9)), handled=LATER), DONE),
        (by_somebody_else(EARLIER, handled=EARLIER), DONE),
        (by_somebody_else("of a script", handled="of a script"), DONE),
        (by_somebody_else(LATER, handled="the first"), FAILED),
        (by_somebody_else(TOKEN, handled=EARLIER), FAILED),
        (by_somebody_else(TOKEN, handled="of a script"), FAILED),
    ],
    ids=["later", "one of two later", "by a clock that is behind", "no time", "not yet", "an earlier one", "before"],
)
async def test_a_request_that_somebody_else_replaces_is_done_with_theirs(change: Json, code: int) -> None:
    cluster = FakeRequests(sources=[source_body("a", status={"lastHandledReconcileAt": "the first"})])
    clock, printed = FakeClock(), Printed()
    patched = cluster.patch_source

    async def patch_and_be_overtaken(name: str, patch: Json) -> Json:
        body = await patched(name, patch)
        cluster.change(name, change)
        return body

    cluster.patch_source = patch_and_be_overtaken  # type: ignore[method-assign]
    work = reconcile(cluster, ["a"], printed.screen, wait=timedelta(seconds=30), clock=clock)
    assert await let_time_pass(clock, work) == code


async def test_what_was_handled_before_the_request_is_not_it_even_by_a_clock_that_is_ahead() -> None:
    cluster, clock = FakeRequests(sources=[source_body("a", status={"lastHandledReconcileAt": LATER})]), FakeClock()
    work = reconcile(cluster, ["a"], Printed().screen, wait=timedelta(seconds=30), clock=clock)
    assert await let_time_pass(clock, work) == FAILED


async def test_a_wait_that_was_too_short_says_what_stops_the_source() -> None:
    away = condition("ProviderReady", "False", "ProviderUnavailable", "it is away")
    earlier = {"lastHandledReconcileAt": "an earlier one", "conditions": [away]}
    cluster, clock, printed = FakeRequests(sources=[source_body("a", status=earlier)]), FakeClock(), Printed()
    work = reconcile(cluster, ["a"], printed.screen, wait=timedelta(seconds=30), clock=clock)
    assert await let_time_pass(clock, work) == FAILED
    assert printed.lines == ["✗ a: not done within 30s; ProviderUnavailable: it is away"]


async def approved(cluster: FakeRequests, *, agreed: bool = True) -> tuple[int, Printed]:
    printed = Printed()

    def ask() -> bool:
        assert "rows" in printed.text
        return agreed

    return await approve(cluster, "a", printed.screen, agreed=ask), printed


async def test_rows_and_price_are_shown_before_the_question_and_the_fingerprint_is_approved() -> None:
    cluster = FakeRequests(sources=[source_body("a", status=CHANGED)])
    code, printed = await approved(cluster)
    assert code == DONE
    assert printed.lines[0].splitlines() == [
        "a: public.businesses",
        "  change   other@8#1234",
        "  rows     335",
        "  price    about 0.1250",
    ]
    assert cluster.writes == [("a", {"spec": {"approvedFingerprint": "other@8#1234"}})]


async def test_without_consent_nothing_is_approved_and_the_exit_code_stops_a_script() -> None:
    cluster = FakeRequests(sources=[source_body("a", status=CHANGED)])
    code, printed = await approved(cluster, agreed=False)
    assert (code, cluster.writes, printed.notes) == (FAILED, [], ["nothing is approved"])


@pytest.mark.parametrize(
    ("reembed", "price"),
    [
        ({"rows": 3, "estimatedCost": "0.0000"}, "not known: EMBEDDING_PRICE_PER_MILLION_TOKENS"),
        (None, "not estimated"),
    ],
)
async def test_a_price_that_is_not_known_is_not_shown_as_nothing(reembed: Json | None, price: str) -> None:
    cluster = FakeRequests(sources=[source_body("a", status=CHANGED | {"reembed": reembed})])
    assert f"price    {price}" in (await approved(cluster))[1].text


async def test_where_no_change_waits_the_exit_code_is_not_that_of_an_approval() -> None:
    with pytest.raises(NotFound, match="no change of a waits for approval"):
        await approved(FakeRequests(sources=[source_body("a", status={"pendingFingerprint": None})]))


async def test_a_change_that_is_approved_already_is_not_asked_for_again() -> None:
    cluster = FakeRequests(sources=[source_body("a", status=CHANGED, approvedFingerprint="other@8#1234")])
    printed = Printed()
    assert await approve(cluster, "a", printed.screen, agreed=lambda: False) == DONE
    assert "approved already" in printed.text
