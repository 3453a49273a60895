"""What the node's programs change on the machine beside their own folder: noted before they start, put back after they end.

Called by the node. The kubelet and kube-proxy set kernel parameters and make folders of their own, and undo none of it.
"""

import json
import shutil
from contextlib import suppress
from pathlib import Path

NOTES = "traces.json"
PARAMETERS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_forward",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
)
"""Below /proc/sys."""
FOLDERS = (
    "/run/containerd",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)
CGROUPS = Path("/sys/fs/cgroup")
POD_CGROUP = "kubepods"


def note(folder: Path, *, system: Path = Path("/proc/sys")) -> None:
    """Write down how things are, in the node's folder."""
    values = {}
    for name in PARAMETERS:
        with suppress(OSError):  # a kernel has not all of them
            values[name] = (system / name).read_text().strip()
    absent = [path for path in FOLDERS if not Path(path).exists()]
    content = {"parameters": values, "absent": absent, "pod_cgroups": bool(pod_cgroups())}
    (folder / NOTES).write_text(json.dumps(content, indent=2))


def put_back(folder: Path, *, system: Path = Path("/proc/sys")) -> None:
    """As it was noted. Without a note nothing happens."""
    if not (folder / NOTES).exists():
        return
    noted = json.loads((folder / NOTES).read_text())
    for name, value in noted["parameters"].items():
        with suppress(OSError):
            if (system / name).read_text().strip() != value:
                (system / name).write_text(value)
    for path in noted["absent"]:
        shutil.rmtree(path, ignore_errors=True)
    if not noted["pod_cgroups"]:
        for cgroup in pod_cgroups():
            with suppress(OSError):  # removed only where nothing runs in it
                for part in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
                    part.rmdir()
                cgroup.rmdir()


def pod_cgroups() -> list[Path]:
    """One, or one for each controller."""
    return [path for path in (CGROUPS / POD_CGROUP, *CGROUPS.glob(f"*/{POD_CGROUP}")) if path.is_dir()]
