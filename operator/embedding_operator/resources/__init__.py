"""The two custom resources, as crds/*.yaml define them: parsed at the edge, frozen inside."""

GROUP = "embeddings.yellowbook.dev"
VERSION = "v1alpha1"
SOURCES = "embeddingsources"
JOBS = "embeddingjobs"
EVENTS_GROUP = "events.k8s.io"
EVENTS = "events"
