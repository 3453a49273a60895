"""How often a text is sent that a whole batch of rows has: by a backfill, through the fake Gemini API. Called by __main__.py."""

from collections.abc import Mapping

from hack.benchmarks.batching import MODEL, settings_of
from hack.benchmarks.operator_system import operator_system
from hack.benchmarks.setting import Setting
from hack.provider_server.process import FakeGemini

ROWS = 100
"""One batch."""
SAME_TEXT = "concat('a chain of shops, opened on ', left(name, 0))"


def measure(setting: Setting) -> Mapping[str, float]:
    with operator_system(setting, ROWS, text=SAME_TEXT) as system, FakeGemini(setting.folder) as server:
        system.start_operator(settings=settings_of(server))
        system.apply_source(model=MODEL, backfill={"mode": "Auto", "threshold": 10})
        system.wait_for_backfill()
        empty = system.listings.number(f"SELECT count(*) FROM public.{system.listings.name} WHERE embedding IS NULL")
        assert empty == 0, "every row has the vector"
        (sent,) = server.stats().texts_by_hash.values()
        return {"duplicate_texts_called_once": sent}
