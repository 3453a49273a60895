"""Writes one log line per event to stderr, as JSON or for a console. Never a row's text, a key, or a URL with a password.

The records of kopf and of other libraries are written in the same format. Called once, by the command.
"""

import logging
import sys
import traceback

import structlog

from embedding_operator.settings import Settings

# Their messages quote values of rows (a failed cast), or whole requests.
QUOTING_PACKAGES = ("psycopg", "pydantic", "aiohttp", "google", "requests", "urllib3")


def traceback_without_content(exc_info: structlog.typing.ExcInfo) -> str:
    """The kinds of the errors and where they were raised: no local variables, and no message that may quote a row."""
    lines: list[str] = []
    error: BaseException | None = exc_info[1]
    while error is not None:
        kind = type(error)
        quoting = kind.__module__.partition(".")[0] in QUOTING_PACKAGES
        lines.append(f"{kind.__module__}.{kind.__qualname__}" + ("" if quoting else f": {error}"))
        frames = traceback.extract_tb(error.__traceback__)
        lines += [f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(lines)


def set_up_logs(settings: Settings) -> None:
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(allow=()),
    ]
    shared.append(structlog.processors.ExceptionRenderer(traceback_without_content))
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    if settings.log_format == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),  # before a line is made
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    # kopf logs every step of every object, at debug with its whole body, and psycopg at debug each connection with its host.
    for name in ("kopf", "asyncio", "psycopg"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its messages about failed connections quote parts of the URL, which may be parts of the password.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
