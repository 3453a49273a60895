"""The first part of the demo: a table is declared once, rows become fresh, and are edited. And its end: a search by meaning.

Called by the demo's command, on a stage that is up. Every command that it prints is one that it runs.
"""

import time

from hack.demo.data import SEARCHES
from hack.demo.narrator import Narrator
from hack.demo.provider import Provider
from hack.demo.search import SearchText, answer, vector_in
from hack.errors import ToolError
from hack.repository import ROOT

FRESH_WITHIN_S = 120
FIRST_EDITED = "Lutefisk & Rye Bakery"
NEW_DESCRIPTION = "Gluten-free bread, buns and birthday cakes, baked in an oven that wheat flour has never seen."
QUESTION_FOR_EDITED = "gluten-free birthday cake"
PHONE_EDITED = "Fermata Piano Service"
NAMED = {FIRST_EDITED, PHONE_EDITED, "Klempnerei Brandt & Söhne", "鮨処 まつ葉", "西关牙科诊所"} | {
    "Pianostemmer Anneke de Wit",
    "世田谷ピアノ調律室",
}
"""The businesses that the story and its searches name, and those that README.md shows as found."""

NEAREST = (
    "SELECT round(({column} <=> '[…]')::numeric, 2) AS distance, name, city, left(description, 60)\n"
    "     FROM public.businesses ORDER BY {column} <=> '[…]' LIMIT 3"
)
"""As it is shown; the vector takes the place of […]."""
PLACE = """
SELECT count(*) + 1 FROM public.businesses
WHERE {column} <=> %s::vector < (SELECT {column} <=> %s::vector FROM public.businesses WHERE name = %s)
"""


class Story:
    def __init__(self, narrator: Narrator, provider: Provider) -> None:
        self._narrator = narrator
        self._provider = provider
        self._query = narrator.stage.query

    def show(self) -> None:
        self.fresh_for_the_first_time()
        self.an_edit()
        self.a_phone_number()

    def fresh_for_the_first_time(self) -> None:
        narrator, provider = self._narrator, self._provider
        narrator.scene("A table is declared once, and its rows become fresh")
        narrator.show(provider.example.read_text().strip(), dim=True)
        began = time.monotonic()
        narrator.kubectl("apply", "-f", str(provider.example.relative_to(ROOT)))
        wait = ("wait", "--for=condition=Fresh", f"embeddingsource/{provider.source}", f"--timeout={FRESH_WITHIN_S}s")
        narrator.kubectl_wait(*wait, source=provider.source, column=provider.column, within_s=FRESH_WITHIN_S + 10)
        took_s = time.monotonic() - began
        (count,) = self._query(f"SELECT count({provider.column}) FROM public.businesses")[0]  # noqa: S608
        narrator.say(f"{count} rows have their embedding, {took_s:.1f} s after the source was applied")
        narrator.until(self._counted, "the source's counts")
        narrator.until(self._is_searchable, "embedding-operator serve to know the source")
        narrator.kubectl("get", "embeddingsources,embeddingjobs")

    def an_edit(self) -> None:
        narrator = self._narrator
        narrator.scene("A business is edited, and becomes fresh again")
        business, hashed = self._business(FIRST_EDITED)
        narrator.say(f"“{QUESTION_FOR_EDITED}” finds {FIRST_EDITED} in place {self._place(FIRST_EDITED)}")
        narrator.sql("UPDATE public.businesses SET description = %s WHERE id = %s", NEW_DESCRIPTION, business)
        took_s = narrator.until(lambda: self._business(FIRST_EDITED)[1] != hashed, f"business {business} to be fresh")
        narrator.say(f"fresh after {took_s:.1f} s, and now found in place {self._place(FIRST_EDITED)}")
        narrator.kubectl("get", "embeddingjobs", f"--field-selector=spec.businessId={business}")

    def a_phone_number(self) -> None:
        narrator = self._narrator
        narrator.scene("A phone number is edited, and nothing happens")
        business, _ = self._business(PHONE_EDITED)
        marks = self._marks()
        narrator.sql("UPDATE public.businesses SET phone = '+1-555-0142' WHERE id = %s", business)
        if new := self._marks() - marks:
            raise ToolError(
                f"a phone number's edit marked {new} rows as due: the phone number is not part of spec.text"
            )
        narrator.say(
            "the text that is embedded is the same: the trigger marked nothing, so there is no job and no call"
        )
        narrator.kubectl("get", "embeddingjobs", f"--field-selector=spec.businessId={business}")

    def searches(self) -> None:
        """The last scene."""
        narrator = self._narrator
        narrator.scene("Search by meaning, across languages")
        nearest = NEAREST.format(column=self._provider.column)
        for search in SEARCHES:
            narrator.show(f"\n  “{search.query}”")
            narrator.show(f"  {search.why}", dim=True)
            vector = str(narrator.curl(self._asked(search.query)))
            narrator.show(f"sql> {nearest}   -- […] is that vector")
            for found in self._query(nearest.replace("'[…]'", "%s"), vector, vector):
                narrator.show(f"    {' | '.join(map(str, found))}")

    def _asked(self, text: str) -> SearchText:
        return SearchText(self._narrator.stage.search_url, self._provider.source, text)

    def _is_searchable(self) -> bool:
        """It has seen the model in the source's status."""
        return '"data"' in answer(self._asked(QUESTION_FOR_EDITED))

    def _business(self, name: str) -> tuple[int, str]:
        """The id of a business, and a hash of its vector."""
        business, hashed = self._query(
            f"SELECT id, md5({self._provider.column}::text) FROM public.businesses WHERE name = %s",  # noqa: S608
            name,
        )[0]
        return int(str(business)), str(hashed)

    def _place(self, name: str) -> int:
        vector = str(vector_in(answer(self._asked(QUESTION_FOR_EDITED))))
        return int(str(self._query(PLACE.format(column=self._provider.column), vector, vector, name)[0][0]))

    def _marks(self) -> int:
        """How many change marks were appended for this source's column so far."""
        (table,) = self._query(
            "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'embedding_operator'::regnamespace "
            "AND c.relkind = 'r' AND c.relname ~ %s",
            f"^businesses_{self._provider.column}_[0-9a-f]{{8}}_marks$",
        )[0]
        sequence = "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(%s, 'seq')::regclass), 0)"
        return int(str(self._query(sequence, table)[0][0]))

    def _counted(self) -> bool:
        status = self._narrator.stage.kubectl.get("embeddingsource", self._provider.source)["status"]
        return bool(status.get("rows", {}).get("due") == 0 and status["jobs"]["open"] == 0)
