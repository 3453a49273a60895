"""Finds out what limits the calls of a source, for `embedding-operator plan`. Called by plan_facts.py. Calls nothing."""

from embedding_operator.cli.plan_values import ProviderFacts
from embedding_worker.clock import SystemClock
from embedding_worker.errors import SourceRefused
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.provider import registered_providers
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.source import Model


def provider_facts(model: Model, credentials: Credentials) -> ProviderFacts:
    """What limits the calls; where the provider can't be used yet, why. Calls nothing."""
    registered = registered_providers().get(model.provider)
    calls_server = registered is None or registered.calls_server
    decided_by = _rate_decided_by(model, calls_server=calls_server)
    try:
        registry = ProviderRegistry(credentials, clock=SystemClock(), observer=NoObserver())
        embedder = registry.embedder(model, source="plan")
    except SourceRefused as exc:
        return ProviderFacts(problem=exc.message, calls_server=calls_server, rate_decided_by=decided_by)
    return ProviderFacts(
        embedder.limits[1],
        embedder.max_texts,
        embedder.max_text_bytes,
        calls_server=calls_server,
        rate_decided_by=decided_by,
    )


def _rate_decided_by(model: Model, *, calls_server: bool) -> str | None:
    if model.endpoint:
        return "the server that spec.model.endpoint names decides"
    return None if calls_server else "the model runs on the CPU of the process that embeds the rows"
