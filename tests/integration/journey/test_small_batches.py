"""A server that takes fewer texts in a call than the provider sends: the operator learns how many, and no row suffers."""

from pathlib import Path

import pytest

from hack.provider_server.faults import FaultKind
from hack.provider_server.openai_answers import Dialect
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System
from tests.support.yellow_book import fake_gemini_model

MODEL = {"provider": "openai", "name": "sentence-transformers/distiluse-base-multilingual-cased-v2", "dimensions": 512}
ROWS = 300
MOST_REFUSED = 12
"""Each batch of the first moments finds the limit by itself: 256, 128 and 64 texts are refused, and then none."""


@pytest.mark.timeout(300)
def test_300_rows_are_embedded_by_a_server_that_takes_32_texts_with_few_refused_calls(
    system: System, gemini: FakeGemini
) -> None:
    system.book.add(ROWS)
    system.book.model = fake_gemini_model
    gemini.fault(FaultKind.SLOW, seconds=6, times=3)  # so that many rows wait for the next calls
    system.apply_source(model=MODEL | {"endpoint": gemini.openai_url(Dialect.TEI)})
    operator = system.start_operator()
    system.wait_until_fresh(within_s=120)
    stats = gemini.stats()
    assert 1 <= stats.answers["413"] <= MOST_REFUSED
    assert stats.largest_batch > 32
    assert [job for job in system.jobs() if job["status"]["phase"] == "DeadLettered"] == []
    assert system.book.run("SELECT count(*) FROM embedding_operator.outcomes WHERE phase = 'DeadLettered'") == [(0,)]
    system.wait_for_condition("ProviderReady", "True")
    assert "batch size" not in Path(operator.log).read_text()
