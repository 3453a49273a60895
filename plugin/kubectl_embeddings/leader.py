"""Finds the pod of the operator that leads, and asks it what only it knows.

Called by the verbs `explain` and `report`. The Lease names the pod. Its port is open to the pod alone, so the question goes
through the API server, and the right to port-forward guards it.
"""

import json
from dataclasses import dataclass
from urllib.parse import urlencode

from embedding_operator.api_errors import ApiServerError, RequestRefused
from kubectl_embeddings import runbook
from kubectl_embeddings.cluster import Json, Requests
from kubectl_embeddings.failures import CommandFailed, NotFound, WrongUse
from kubectl_embeddings.given_values import check_name
from kubectl_embeddings.operator_presence import lease_path, pods_command
from kubectl_embeddings.pod_tunnel import Answer, PodSilent

LABELS = "app.kubernetes.io/name=embedding-operator,app.kubernetes.io/component=operator"
DEFAULT_PORTS = {"local": 8081, "http": 8080}
"""The names of the pod's ports, and their numbers where the pod does not say them."""


class NobodyLeads(CommandFailed):
    """The namespace has an operator that does not work at the moment."""


class NoOperatorHere(NotFound):
    """The namespace has no operator, as far as it is known."""


@dataclass(frozen=True)
class Leader:
    namespace: str
    pod: str
    ports: dict[str, int]


async def find_leader(cluster: Requests, namespace: str) -> Leader:
    """Raises NoOperatorHere, NobodyLeads, and CommandFailed where the pod has just ended."""
    try:
        lease = await cluster.read(lease_path(namespace))
    except NotFound:
        lease = {}
    holder = (lease.get("spec") or {}).get("holderIdentity") or ""
    if not holder:
        await _refuse_without_operator(cluster, namespace, lease)
        raise NobodyLeads(
            f"no pod of the operator leads in namespace {namespace} at the moment: see why with "
            f"`{cluster.commands.of(f'kubectl logs -l {LABELS}', namespace)}`"
        )
    try:
        check_name(holder, "the holder of the Lease")
        pod = await cluster.read(f"api/v1/namespaces/{namespace}/pods/{holder}")
    except (NotFound, WrongUse):  # an operator outside of pods has any identity
        raise CommandFailed(
            f"the leader {holder} is no pod of namespace {namespace}, or has just ended: ask again in 20 s, and then see which "
            f"pods there are with `{cluster.commands.of(pods_command(namespace))}`"
        ) from None
    return Leader(namespace, holder, DEFAULT_PORTS | _ports(pod))


async def _refuse_without_operator(cluster: Requests, namespace: str, lease: Json) -> None:
    """A namespace with a Lease has had an operator. Without one, it may be another namespace."""
    found = await cluster.read(f"api/v1/namespaces/{namespace}/pods", labelSelector=LABELS)
    if found["items"]:
        return
    see = f"no pod of the operator runs in namespace {namespace}: see why with `{cluster.commands.of(pods_command(namespace))}`"
    if lease:
        raise NobodyLeads(f"{see} and {runbook.section(runbook.NO_OPERATOR)}")
    raise NoOperatorHere(f"{see}, or name the namespace of its release with --operator-namespace")


def _ports(pod: Json) -> dict[str, int]:
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports") or ())
    return {port["name"]: port["containerPort"] for port in ports if port.get("name") in DEFAULT_PORTS}


async def ask_leader(cluster: Requests, leader: Leader, port: str, path: str) -> Answer:
    """The answer to GET on this port of the leader. Raises CommandFailed."""
    try:
        return await cluster.ask_pod(leader.namespace, leader.pod, leader.ports[port], path)
    except RequestRefused as exc:
        raise CommandFailed(
            f"you may not forward a port to the pod {leader.pod}: ask for the rights get and create on pods/portforward in "
            f"namespace {leader.namespace}, which the role row-explainer has"
        ) from exc
    except PodSilent as exc:
        raise CommandFailed(
            f"port {leader.ports[port]} of the pod {leader.pod} gives no answer ({exc}): look with "
            f"`{cluster.commands.of(f'kubectl logs {leader.pod}', leader.namespace)}`"
        ) from exc


async def ask_about_row(cluster: Requests, namespace: str, source: str, row_id: str) -> Json:
    """What the leader says of this row of the source NAMESPACE/NAME. Raises NotFound for an unknown source, and CommandFailed."""
    leader = await find_leader(cluster, namespace)
    answer = await ask_leader(cluster, leader, "local", f"/v1/rows?{urlencode({'source': source, 'id': row_id})}")
    try:
        told = json.loads(answer.body)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise CommandFailed(
            f"the operator's pod {leader.pod} has answered {answer.status}, and no object of JSON: its version may be another one"
        )
    if answer.status == 200:
        return told
    failure = NotFound if answer.status == 404 else CommandFailed
    raise failure(f"the operator's pod {leader.pod}: {told.get('error', answer.status)}")


async def try_to_ask(
    cluster: Requests, namespace: str, source: str, row_id: str
) -> Json | CommandFailed | ApiServerError:
    """The same, or why it is not known."""
    try:
        return await ask_about_row(cluster, namespace, source, row_id)
    except (CommandFailed, ApiServerError) as exc:
        return exc
