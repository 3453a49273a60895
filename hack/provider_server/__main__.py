"""`python -m hack.provider_server` runs the fake APIs until it is interrupted. Its first line says at which address."""

import asyncio
import sys
from typing import Annotated

import typer

from hack.provider_server.process import API_KEY
from hack.provider_server.server import FakeServer, serve

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def fake_gemini(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    latency_ms: Annotated[int, typer.Option(min=0, help="How long each answer takes.")] = 0,
    api_key: Annotated[str, typer.Option(help="The only key that is accepted.")] = API_KEY,
) -> None:
    """Answers as the Gemini API and OpenAI's do, with vectors made of hashes; /control sets faults, /control/stats counts."""
    try:
        asyncio.run(serve(FakeServer(api_key=api_key, latency_s=latency_ms / 1000), port))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as exc:
        print(f"python -m hack.provider_server: port {port} cannot be used: {exc.strerror}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app()
