"""The two custom resources, as crds/*.yaml define them: parsed where they enter the process, frozen inside it."""

GROUP = "embeddings.yellowbook.dev"
VERSION = "v1alpha1"
SOURCES = "embeddingsources"
JOBS = "embeddingjobs"
EVENTS_GROUP = "events.k8s.io"
EVENTS = "events"
