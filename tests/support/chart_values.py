"""Sets of values that together cover every template and every branch, for tests of all rendered objects."""

from tests.support.chart import Json

RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
EVERYTHING: Json = {
    "image": {"digest": "sha256:" + "0a" * 32},
    "imagePullSecrets": [{"name": "registry"}],
    "commonLabels": {"team": "search"},
    "crds": {"install": True},
    "database": {"existingSecret": "mine", "existingSecretKey": "uri"},
    "gemini": {
        "existingSecret": "mine",
        "existingSecretKey": "key",
        "endpoint": "https://gemini.example",
        "tokensPerMinute": 5_000_000,
    },
    "apiKeys": [{"secretName": "team-b", "key": "api-key", "endpoints": ["https://api.openai.com/v1"]}],
    "openai": {"existingSecret": "mine", "existingSecretKey": "openai", "textsPerMinute": 100_000},
    "simulated": {"allowed": True, "latencyMilliseconds": 200, "failureRate": 0.1, "refusedText": "POISON"},
    "settings": {"finishedJobSeconds": 2_000_000, "logFormat": "console"},
    "backfill": {
        "workers": {
            "enabled": True,
            "resources": {"limits": {"nvidia.com/gpu": 1}},
            "labels": {"kueue.x-k8s.io/queue-name": "embeddings"},
            "annotations": {"e": "f"},
            "podLabels": {"g": "h"},
            "podAnnotations": {"i": "j"},
            "runtimeClassName": "nvidia",
        }
    },
    "serve": {
        "enabled": True,
        "replicas": 2,
        "existingSecret": "token",
        "ingressFrom": [{"podSelector": {}}],
        "podAnnotations": {"k": "l"},
        "serviceAnnotations": {"m": "o"},
    },
    "proxy": {"httpProxy": "http://proxy.example:3128", "httpsProxy": "http://proxy.example:3128"},
    "privateCA": {"secret": "corporate"},
    "serviceAccount": {"annotations": {"iam.example/role": "embedding"}},
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"namespaceSelector": {}}],
        "extraEgress": [{"ports": [{"port": 3128, "protocol": "TCP"}]}],
    },
    "podDisruptionBudget": {"enabled": True},
    "serviceAnnotations": {"k": "l"},
    "deploymentAnnotations": {"m": "o"},
    "podAnnotations": {"a/b": "c"},
    "podLabels": {"c": "d"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "only", "operator": "Exists"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]}]
            }
        }
    },
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "embedding-operator"}},
        }
    ],
    "priorityClassName": "system-cluster-critical",
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "extraVolumes": [{"name": "more", "configMap": {"name": "more"}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "extraContainers": [{"name": "log-shipper", "image": "shipper:1", "securityContext": RESTRICTED}],
    "initContainers": [{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always", "securityContext": RESTRICTED}],
    "extraObjects": [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "more", "namespace": "{{ .Release.Namespace }}"}}
    ],
}
POSTGRESQL: Json = {
    "database": {},
    "gemini": {"apiKey": "k"},
    "openai": {"apiKey": "k"},
    "privateCA": {"configMap": "corporate"},
    "networkPolicy": {"enabled": True},
    "postgresql": {"enabled": True, "password": "x", "persistence": {"enabled": True, "storageClass": "fast"}},
}
OPENSHIFT: Json = {
    "database": {},
    "podSecurityContext": dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup")),
    "postgresql": {
        "enabled": True,
        "password": "x",
        "podSecurityContext": dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup")),
    },
}
VALUE_SETS: dict[str, Json] = {
    "the least": {},
    "everything": EVERYTHING,
    "a PostgreSQL of its own": POSTGRESQL,
    "on OpenShift": OPENSHIFT,
}
