"""Records what the node's programs will change outside of their folder, and restores it after they have ended.

Called by the node. The kubelet and kube-proxy set kernel parameters and create folders, and undo none of it.
"""

import json
import shutil
from contextlib import suppress
from pathlib import Path

RECORD = "traces.json"
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


def record(folder: Path, *, system: Path = Path("/proc/sys")) -> None:
    """Write the present state to the node's folder."""
    values = {}
    for name in PARAMETERS:
        with suppress(OSError):  # not every kernel has all of them
            values[name] = (system / name).read_text().strip()
    absent = [path for path in FOLDERS if not Path(path).exists()]
    content = {"parameters": values, "absent": absent, "pod_cgroups": bool(pod_cgroups())}
    (folder / RECORD).write_text(json.dumps(content, indent=2))


def restore(folder: Path, *, system: Path = Path("/proc/sys")) -> None:
    """Restore the recorded state. Does nothing without a record."""
    if not (folder / RECORD).exists():
        return
    recorded = json.loads((folder / RECORD).read_text())
    for name, value in recorded["parameters"].items():
        with suppress(OSError):
            if (system / name).read_text().strip() != value:
                (system / name).write_text(value)
    for path in recorded["absent"]:
        shutil.rmtree(path, ignore_errors=True)
    if not recorded["pod_cgroups"]:
        for cgroup in pod_cgroups():
            with suppress(OSError):  # it is removed only if nothing runs in it
                for part in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
                    part.rmdir()
                cgroup.rmdir()


def pod_cgroups() -> list[Path]:
    """The cgroups of pods: one, or one for each controller."""
    return [path for path in (CGROUPS / POD_CGROUP, *CGROUPS.glob(f"*/{POD_CGROUP}")) if path.is_dir()]
