"""`python -m hack.fake_gemini`: the fake Gemini API as a program, until it is interrupted. Its first line says where it is."""

import asyncio
import sys
from typing import Annotated

import typer

from hack.fake_gemini.process import API_KEY
from hack.fake_gemini.server import FakeServer, serve

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def fake_gemini(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    latency_ms: Annotated[int, typer.Option(min=0, help="How long each answer takes.")] = 0,
    api_key: Annotated[str, typer.Option(help="The one key that is taken.")] = API_KEY,
) -> None:
    """Answers as the Gemini API does, with vectors made of the texts' hashes; /control sets faults, /control/stats counts."""
    try:
        asyncio.run(serve(FakeServer(api_key=api_key, latency_s=latency_ms / 1000), port))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as exc:
        print(f"python -m hack.fake_gemini: port {port} cannot be used: {exc.strerror}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app()
