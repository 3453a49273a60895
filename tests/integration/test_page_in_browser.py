"""The page of `kubectl embeddings ui` in a headless Chromium: what people see, with a keyboard, on a phone and in the dark.

What it shows is a stand in memory; tests/integration/api_server/test_ui.py has a real API server. The pictures are in build/ui.
"""

from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from embedding_operator.api_errors import ApiServerUnreachable, RequestRefused
from embedding_operator.resources.embedding_job import Phase
from hack.browser.chromium import can_be_had
from hack.repository import ROOT
from tests.support.fake_requests import condition, source_body
from tests.support.jobs import job_body
from tests.support.page_browser import LOOK_AGAIN, WITHIN_MS, Pages, ServedStand, headless_chromium, served
from tests.support.page_stand import Stand, an_hour_later

pytestmark = pytest.mark.skipif(not can_be_had(), reason="the browser needs Linux on x86-64, and npm, which fetches it")

PICTURES = ROOT / "build" / "ui"
MARKUP = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
AWAY = ApiServerUnreachable("the API server cannot be reached (ClientConnectorError)")
LEAST_CONTRAST = 4.5
"""WCAG 2.2, level AA, for text."""
CONTRASTS = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const linear = (value) => ((value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = ([red, green, blue]) => 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const color = channels(getComputedStyle(node).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].filter((one) => one.nodeType === 3).map((one) => one.data.trim()).join("");
    if (!text || !node.checkVisibility()) continue;
    const levels = [luminance(channels(getComputedStyle(node).color)), luminance(ground(node))].sort((a, b) => b - a);
    found.push([text.slice(0, 40), (levels[0] + 0.05) / (levels[1] + 0.05)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    expect.set_options(timeout=WITHIN_MS)
    with headless_chromium() as made:
        yield made


@pytest.fixture(scope="module")
def hour() -> Iterator[ServedStand]:
    """A page that was open for an hour, about sources in every state. No test changes it."""
    with served(an_hour_later()) as made:
        yield made


def small(**source: Any) -> Coroutine[Any, Any, Stand]:
    """A stand with one source that has two dead letters."""

    async def made() -> Stand:
        stand = Stand()
        body = source_body("shops", status={"summary": "Sweeping", "jobs": {"open": 0, "deadLettered": 2}} | source)
        ended: dict[str, Any] = {
            "reason": "InputRejected",
            "message": "refused",
            "completionTime": "2026-03-01T11:59:00Z",
        }
        stand.show([body], [job_body(name, Phase.DEAD_LETTERED, source="shops", **ended) for name in ("1", "2")])
        return stand

    return made()


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    [
        ("wide", 1280, False),
        ("wide-dark", 1280, True),
        ("tablet", 800, False),
        ("narrow", 390, False),
        ("tiny", 320, False),
    ],
)
def test_all_is_seen_without_scrolling_sideways_and_with_enough_contrast(
    name: str, width: int, dark: bool, hour: ServedStand, pages: Pages
) -> None:
    with pages.open(hour.address, width=width, dark=dark) as page:
        expect(page.locator("#due canvas")).to_be_visible()
        page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 100
        assert [(text, ratio) for text, ratio in contrasts if ratio < LEAST_CONTRAST] == []
    assert pages.problems == []


def test_the_picture_of_the_documents_is_drawn(hour: ServedStand, pages: Pages) -> None:
    """docs/ui.png is a copy of build/ui/documents.png."""
    with pages.open(hour.address, width=1280, height=1385) as page:
        expect(page.locator("#due canvas")).to_be_visible()
        page.screenshot(path=PICTURES / "documents.png")
    assert pages.problems == []


def test_sources_have_their_word_numbers_and_backfill(hour: ServedStand, pages: Pages) -> None:
    with pages.open(hour.address) as page:
        rows = page.get_by_role("table", name="Sources").get_by_role("row")
        assert [row.split()[0] for row in rows.all_inner_texts()[1:]] == [
            "orders",
            "photos",
            "reviews",
            "archive",
            "businesses",
            "shops",
        ]
        expect(rows.filter(has_text="photos")).to_contain_text("ProviderUnavailable")
        assert rows.filter(has_text="businesses").get_by_role("cell").all_inner_texts()[1:7] == [
            "99.1 %",
            "302",
            "3m",
            "41",
            "50",
            "9",
        ]
        bar = page.get_by_role("progressbar", name="Backfill of reviews")
        assert bar.evaluate("bar => bar.value") == 61
        expect(rows.filter(has_text="reviews")).to_contain_text("61 %, 31m left")


def test_the_curves_are_described_in_words(hour: ServedStand, pages: Pages) -> None:
    with pages.open(hour.address) as page:
        expect(page.get_by_role("img", name="Fresh rows, in %: between")).to_be_visible()
        page.get_by_label("Curves of").select_option(label="photos")
        expect(page.get_by_role("img", name="Due rows: between 0 and 1,180")).to_be_visible()


def test_everything_is_reached_by_the_keyboard_and_its_focus_is_seen(hour: ServedStand, pages: Pages) -> None:
    with pages.open(hour.address) as page:
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the sources")).to_be_focused()
        wanted = page.locator("main a, main button, main select").count()
        order = []
        for _ in range(wanted):
            page.keyboard.press("Tab")
            assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
            order.append(page.evaluate("document.activeElement.getBoundingClientRect().top + scrollY"))
            assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
        assert len(set(order)) > 10


def test_a_command_is_copied_and_that_is_announced(hour: ServedStand, pages: Pages) -> None:
    command = "kubectl embeddings replay --reason RetriesExhausted -n shops"
    with pages.open(hour.address) as page:
        button = page.get_by_role("button", name=f"Copy: {command}")
        button.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == command


def test_landmarks_headings_and_names_lead_through_the_page(hour: ServedStand, pages: Pages) -> None:
    with pages.open(hour.address) as page:
        assert page.get_by_role("heading", level=2).all_inner_texts() == [
            "Needs attention",
            "Sources",
            "Over time",
            "Dead letters",
            "Open jobs",
        ]
        for landmark in ("banner", "main", "contentinfo"):
            assert page.get_by_role(landmark).count() == 1, landmark
        assert page.get_by_role("region").count() == 6
        assert page.title() == "(5) Embeddings · shops"


def test_nothing_is_loaded_from_elsewhere(hour: ServedStand, pages: Pages) -> None:
    with pages.open(hour.address) as page:
        expect(page.locator("#due canvas")).to_be_visible()
        assert page.evaluate("performance.getEntriesByType('resource').length") > 4
    assert {url for url in pages.requested if not url.startswith("http://127.0.0.1:")} == set()


def test_markup_in_names_reasons_and_messages_is_shown_as_text(pages: Pages) -> None:
    stalled = condition("Stalled", "True", "TableMissing", MARKUP)

    async def made() -> Stand:
        stand = Stand()
        status = {"summary": MARKUP, "conditions": [stalled], "jobs": {"deadLettered": 1}}
        stand.show(
            [source_body("shops", table=MARKUP, status=status)],
            [
                job_body(MARKUP, Phase.DEAD_LETTERED, source=MARKUP, reason=MARKUP, message=MARKUP),
                job_body("2", Phase.PENDING, source=MARKUP, reason=MARKUP, message=MARKUP),
            ],
        )
        return stand

    with served(made()) as stand, pages.open(stand.address) as page:
        expect(page.locator("#dead-letters")).to_contain_text(MARKUP)
        expect(page.locator("#attention")).to_contain_text(f"TableMissing: {MARKUP}")
        expect(page.locator("#open-jobs")).to_contain_text(MARKUP)
        expect(page.locator("#sources-rows")).to_contain_text(MARKUP)
        assert page.locator("main img, main script").count() == 0
        assert "hacked" not in page.title()


def test_a_refresh_keeps_the_focus_and_announces_what_has_changed(pages: Pages) -> None:
    with served(small()) as stand, pages.open(stand.address) as page:
        button = page.get_by_role("button", name="Copy: kubectl embeddings dead-letters --source shops -n shops")
        button.focus()
        stand.pass_time(60)
        stand.stand.change("shops", {"status": {"summary": "ProviderUnavailable"}})
        page.evaluate(LOOK_AGAIN)
        expect(page.get_by_role("status")).to_have_text("shops is now ProviderUnavailable")
        expect(button).to_be_focused()


def test_old_data_are_shown_with_their_time_and_why_there_are_no_newer_ones(pages: Pages) -> None:
    with served(small()) as stand, pages.open(stand.address) as page:
        expect(page.get_by_text("Up to date: 12:00:00")).to_be_visible()
        stand.stand.failure = AWAY
        stand.pass_time(600)
        page.evaluate(LOOK_AGAIN)
        expect(page.get_by_role("alert")).to_have_text(
            "The API server cannot be reached (ClientConnectorError): look with `kubectl cluster-info`. "
            "What is shown is of 12:00:00."
        )
        expect(page.get_by_text("Not up to date: of 12:00:00, 10 minutes ago")).to_be_visible()
        expect(page.locator("#sources-rows")).to_contain_text("Sweeping")
        page.screenshot(path=PICTURES / "old.png", full_page=True)
        assert min(ratio for _, ratio in page.evaluate(CONTRASTS)) >= LEAST_CONTRAST


def test_a_command_that_has_ended_is_said(pages: Pages) -> None:
    with served(small()) as stand, pages.open(stand.address) as page:
        page.route("**/state?*", lambda route: route.abort())
        page.evaluate(LOOK_AGAIN)
        expect(page.get_by_role("alert")).to_contain_text("`kubectl embeddings ui` does not answer: start it again")
        expect(page.get_by_text("Not up to date: of 12:00:00")).to_be_visible()
    pages.problems.clear()  # the browser reports the request that was aborted


def test_an_api_server_that_was_never_reached_shows_no_number(pages: Pages) -> None:
    async def made() -> Stand:
        stand = Stand()
        stand.failure = AWAY
        return stand

    with served(made()) as stand, pages.open(stand.address) as page:
        expect(page.get_by_role("alert")).to_contain_text("The API server cannot be reached")
        expect(page.get_by_text("Nothing has been read yet", exact=True)).to_be_visible()
        assert page.locator("#totals dd").count() == 0
        expect(page.get_by_text("There are none.")).to_have_count(0)


def test_without_the_right_to_list_jobs_the_part_says_so(pages: Pages) -> None:
    async def made() -> Stand:
        stand = await small()
        stand.failing_jobs = RequestRefused('embeddingjobs is forbidden: cannot list resource "embeddingjobs"')
        return stand

    with served(made()) as stand, pages.open(stand.address) as page:
        for part in ("#dead-letters-note", "#open-jobs-note"):
            expect(page.locator(part)).to_contain_text("The API server refuses this: embeddingjobs is forbidden")
            expect(page.locator(part)).to_contain_text("Nothing has been read yet.")
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.locator("#sources-rows")).to_contain_text("shops")


def test_a_namespace_without_a_source_says_so(pages: Pages) -> None:
    async def made() -> Stand:
        return Stand()

    with served(made()) as stand, pages.open(stand.address) as page:
        expect(page.get_by_text("Namespace shops has no EmbeddingSource.")).to_be_visible()
        expect(page.get_by_text("There are none.")).to_have_count(2)
