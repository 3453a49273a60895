"""The network of the node's pods: one bridge on this machine, whose address is also the node's.

Called by the node. All that it makes is this machine's alone, and goes again with the node.
"""

import json
from pathlib import Path

from hack.node.commands import run, try_run

BRIDGE = "eo-pods0"
NODE_ADDRESS = "10.89.131.1"
NETWORK = "embedding-operator"
RESULTS = Path("/var/lib/cni/results")
"""Where libcni notes what it has made for each pod, so that it can be found again."""
POD_RANGE = "10.89.131.0/24"
SERVICE_RANGE = "10.96.0.0/16"
# Nothing leaves the machine: a pod reaches other pods, services and the API server.
RULES = (
    [
        "FORWARD",
        "--in-interface",
        BRIDGE,
        "--out-interface",
        BRIDGE,
        "--jump",
        "ACCEPT",
    ],  # also where Docker drops by default
    ["FORWARD", "--in-interface", BRIDGE, "!", "--out-interface", BRIDGE, "--jump", "REJECT"],
)
# What a kubelet makes and never removes; another one, if there is any, makes it anew.
KUBELET_CHAINS = ("KUBE-FIREWALL", "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT")


def make_bridge() -> None:
    run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    for rule in RULES:
        run(["iptables", "--insert", *rule])
    run(["ip", "route", "add", "blackhole", SERVICE_RANGE])  # where the proxy does not lead, no address leads on
    run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])


def remove_bridge() -> None:
    """And what belongs to pods that no kubelet has taken down."""
    for note in RESULTS.glob(f"{NETWORK}-*"):
        made = json.loads(note.read_text())
        for namespace in {Path(interface.get("sandbox", "")).name for interface in made["result"]["interfaces"]} - {""}:
            try_run(["ip", "netns", "delete", namespace])
        note.unlink()
        (RESULTS / f"cni-loopback-{made['containerId']}-lo").unlink(missing_ok=True)
    for link in json.loads(try_run(["ip", "-json", "link", "show", "master", BRIDGE]).stdout or "[]"):
        try_run(["ip", "link", "delete", link["ifname"]])
    for rule in RULES:
        try_run(["iptables", "--delete", *rule])
    for chain in ("INPUT", "OUTPUT"):
        try_run(["iptables", "--delete", chain, "--jump", "KUBE-FIREWALL"])
    for table in ("filter", "nat", "mangle"):
        for chain in KUBELET_CHAINS:
            try_run(["iptables", "--table", table, "--flush", chain])
            try_run(["iptables", "--table", table, "--delete-chain", chain])
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
