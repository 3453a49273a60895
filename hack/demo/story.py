"""What the demo shows, one scene after another: every command that it prints is one that it runs.

Called by the demo's command, on a stage that is up.
"""

import time
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from hack.demo.data import SEARCHES
from hack.demo.stage import EXAMPLE, Stage
from hack.errors import ToolError
from hack.installation import ROOT

FRESH_WITHIN_S = 60
ROW_FRESH_WITHIN_S = 60
MOST_LINES = 14
FIRST_EDITED = "Lutefisk & Rye Bakery"
NEW_DESCRIPTION = "Gluten-free bread, buns and birthday cakes, baked in an oven that wheat flour has never seen."
QUESTION_FOR_EDITED = "gluten-free birthday cake"
PHONE_EDITED = "Fermata Piano Service"
NAMED = {FIRST_EDITED, PHONE_EDITED, "Klempnerei Brandt & Söhne", "鮨処 まつ葉", "西关牙科诊所"}
"""Whom the story speaks of, and whom its searches are to find."""

NEAREST = """
SELECT name, city, country, left(description, 96), 1 - (embedding <=> %s::vector) AS similarity
FROM public.businesses ORDER BY embedding <=> %s::vector LIMIT 3
"""
RANK = """
SELECT count(*) + 1 FROM public.businesses
WHERE embedding <=> %s::vector < (SELECT embedding <=> %s::vector FROM public.businesses WHERE name = %s)
"""


class Story:
    """Tells it on one console; `embed` makes a query's vector, with the same model as the rows' (512 floats)."""

    def __init__(self, stage: Stage, console: Console, embed: Callable[[str], list[float]]) -> None:
        self._stage = stage
        self._console = console
        self._embed = embed

    def tell(self) -> None:
        self.fresh_for_the_first_time()
        self.an_edit()
        self.a_phone_number()
        self.searches()

    def fresh_for_the_first_time(self) -> None:
        self._scene("A table is declared once, and its rows become fresh")
        self._console.print(escape(EXAMPLE.read_text().strip()), style="dim", highlight=False)
        began = time.monotonic()
        self._kubectl("apply", "-f", str(EXAMPLE.relative_to(ROOT)), run=("apply", "-f", str(EXAMPLE)))
        timeout = f"--timeout={FRESH_WITHIN_S}s"
        self._kubectl("wait", "--for=condition=Fresh", "embeddingsource/businesses", timeout)
        (count,) = self._stage.query("SELECT count(*) FROM public.businesses WHERE embedding IS NOT NULL")[0]
        self._say(f"{count} rows have their embedding, {time.monotonic() - began:.1f} s after the source was applied")
        self._until(self._counted, "the source's counts")
        self._kubectl("get", "embeddingsources,embeddingjobs")

    def an_edit(self) -> None:
        self._scene("A business is edited, and becomes fresh again")
        business, hashed = self._business(FIRST_EDITED)
        self._say(f"“{QUESTION_FOR_EDITED}” finds {FIRST_EDITED} in place {self._place(FIRST_EDITED)}")
        self._sql("UPDATE public.businesses SET description = %s WHERE id = %s", NEW_DESCRIPTION, business)
        began = time.monotonic()
        self._until(lambda: self._business(FIRST_EDITED)[1] != hashed, f"business {business} to be fresh")
        self._say(f"fresh after {time.monotonic() - began:.2f} s, and now found in place {self._place(FIRST_EDITED)}")
        self._kubectl("get", "embeddingjobs", f"--field-selector=spec.businessId={business}")

    def a_phone_number(self) -> None:
        self._scene("A phone number is edited, and nothing happens")
        business, _ = self._business(PHONE_EDITED)
        marks = self._marks()
        self._sql("UPDATE public.businesses SET phone = '+1-555-0142' WHERE id = %s", business)
        new = self._marks() - marks
        if new:
            raise ToolError(f"a phone number's edit marked {new} rows as due: it is no part of spec.text")
        self._say("the text that is embedded is the same: the trigger marked nothing, so there is no job and no call")
        self._kubectl("get", "embeddingjobs", f"--field-selector=spec.businessId={business}")

    def searches(self) -> None:
        self._scene("Search by meaning, across languages")
        for search in SEARCHES:
            vector = str(self._embed(search.query))
            self._console.print(f"\n  [bold]“{escape(search.query)}”[/bold]  [dim]{escape(search.why)}[/dim]")
            for name, city, country, description, similarity in self._stage.query(NEAREST, vector, vector):
                line = f"    {similarity:.2f}  {name}, {city} ({country})"
                self._console.print(escape(line), highlight=False)
                self._console.print(escape(f"          {description}"), style="dim", highlight=False)

    def _business(self, name: str) -> tuple[int, str]:
        """Its id, and a hash of its vector."""
        business, hashed = self._stage.query(
            "SELECT id, md5(embedding::text) FROM public.businesses WHERE name = %s", name
        )[0]
        return int(str(business)), str(hashed)

    def _place(self, name: str) -> int:
        vector = str(self._embed(QUESTION_FOR_EDITED))
        return int(str(self._stage.query(RANK, vector, vector, name)[0][0]))

    def _marks(self) -> int:
        """How many due marks were ever appended."""
        (table,) = self._stage.query(
            "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'embedding_operator'::regnamespace "
            "AND c.relkind = 'r' AND c.relname LIKE 'businesses_embedding_%_due'"
        )[0]
        sequence = "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(%s, 'seq')::regclass), 0)"
        return int(str(self._stage.query(sequence, table)[0][0]))

    def _counted(self) -> bool:
        status = self._stage.kubectl.get("embeddingsource", "businesses")["status"]
        return bool(status.get("rows", {}).get("due") == 0 and status["jobs"]["open"] == 0)

    def _until(self, check: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + ROW_FRESH_WITHIN_S
        while not check():
            if time.monotonic() > deadline:
                raise ToolError(
                    f"waited {ROW_FRESH_WITHIN_S} s for {what}; the operator's log ends:\n{self._stage.operator.tail()}"
                )
            time.sleep(0.05)

    def _scene(self, title: str) -> None:
        self._console.rule(f"[bold]{title}", align="left")

    def _say(self, line: str) -> None:
        self._console.print(f"  {escape(line)}", style="green", highlight=False)

    def _sql(self, statement: str, *params: object) -> None:
        shown = statement
        for value in params:
            shown = shown.replace("%s", f"'{value}'" if isinstance(value, str) else str(value), 1)
        self._console.print(f"sql> {escape(shown)}", style="bold", highlight=False)
        self._stage.query(statement, *params)

    def _kubectl(self, *arguments: str, run: tuple[str, ...] = ()) -> None:
        self._console.print(f"$ kubectl {escape(' '.join(arguments))}", style="bold", highlight=False)
        lines = self._stage.kubectl.run(*(run or arguments), within_s=FRESH_WITHIN_S + 10).splitlines()
        for line in lines[:MOST_LINES]:
            self._console.print(escape(line), highlight=False, soft_wrap=True)
        if len(lines) > MOST_LINES:
            self._console.print(f"… and {len(lines) - MOST_LINES} more", style="dim")
