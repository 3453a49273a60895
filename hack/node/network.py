"""The network of the node's pods: one bridge on this machine, whose address is also the node's.

Called by the node. Nothing outside of this machine can reach it, and all of it is removed with the node.
"""

import json
import shlex
from pathlib import Path

from hack.control_plane.commands import SERVICE_RANGE
from hack.node.commands import run, try_run

BRIDGE = "eo-pods0"
NODE_ADDRESS = "10.89.131.1"
NETWORK = "embedding-operator"
RESULTS = Path("/var/lib/cni/results")
"""Where libcni records what it created for each pod."""
POD_RANGE = "10.89.131.0/24"
KUBELET_CHAIN = "KUBE-FIREWALL"
TAG = ["--match", "comment", "--comment", "embedding-operator node"]
"""Marks all of our rules, so that a later run can find and remove them."""


def rules(apiserver_port: int) -> list[list[str]]:
    """The rules in their order. Nothing from the pods leaves the machine, and no other network reaches the node."""
    to_apiserver = ["--protocol", "tcp", "--dport", str(apiserver_port)]
    return [
        ["FORWARD", "--in-interface", BRIDGE, "--out-interface", BRIDGE, "--jump", "ACCEPT"],  # Docker drops by default
        ["FORWARD", "--in-interface", BRIDGE, "--jump", "REJECT"],
        ["FORWARD", "--out-interface", BRIDGE, "--jump", "REJECT"],
        ["INPUT", "--in-interface", "lo", "--destination", NODE_ADDRESS, "--jump", "ACCEPT"],
        ["INPUT", "!", "--in-interface", BRIDGE, "--destination", NODE_ADDRESS, "--jump", "REJECT"],
        ["INPUT", "--in-interface", "lo", *to_apiserver, "--jump", "ACCEPT"],
        ["INPUT", "!", "--in-interface", BRIDGE, *to_apiserver, "--jump", "REJECT"],
    ]


def create_bridge() -> None:
    run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    run(["ip", "route", "add", "blackhole", SERVICE_RANGE])  # addresses without a service lead nowhere
    run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])


def add_rules(apiserver_port: int) -> None:
    """Insert the rules before all others."""
    for chain, *rule in reversed(rules(apiserver_port)):
        run(["iptables", "--wait", "--insert", chain, *TAG, *rule])


def remove_rules() -> None:
    """Remove our rules, and those of the kubelet, which removes none."""
    for line in try_run(["iptables", "--wait", "-S"]).stdout.splitlines():
        if line.startswith("-A ") and TAG[-1] in line:
            try_run(["iptables", "--wait", "-D", *shlex.split(line)[1:]])
    for chain in ("INPUT", "OUTPUT"):
        try_run(["iptables", "--wait", "-D", chain, "--jump", KUBELET_CHAIN])
    for action in ("--flush", "--delete-chain"):
        try_run(["iptables", "--wait", action, KUBELET_CHAIN])


def remove_bridge() -> None:
    """Remove the bridge, the rules, and the networks of pods that no kubelet has removed."""
    for note in RESULTS.glob(f"{NETWORK}-*"):
        created = json.loads(note.read_text())
        for namespace in {Path(interface.get("sandbox", "")).name for interface in created["result"]["interfaces"]} - {
            ""
        }:
            try_run(["ip", "netns", "delete", namespace])
        note.unlink()
        (RESULTS / f"cni-loopback-{created['containerId']}-lo").unlink(missing_ok=True)
    for link in json.loads(try_run(["ip", "-json", "link", "show", "master", BRIDGE]).stdout or "[]"):
        try_run(["ip", "link", "delete", link["ifname"]])
    remove_rules()
    try_run(["ip", "route", "delete", "blackhole", SERVICE_RANGE])
    try_run(["ip", "link", "delete", BRIDGE])


def write_cni_configuration(folder: Path) -> Path:
    """Pods get addresses of POD_RANGE on the bridge. Returns the folder that containerd reads."""
    configuration = {
        "cniVersion": "1.0.0",
        "name": NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_RANGE, "gateway": NODE_ADDRESS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(folder / "cni-addresses"),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    configured = folder / "cni"
    configured.mkdir()
    (configured / "10-pods.conflist").write_text(json.dumps(configuration))
    return configured
