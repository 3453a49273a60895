"""How much memory a process has, by the kernel. Called by the measurements."""

KIB_OF_A_MB = 1_000_000 / 1024


def memory_mb(status: str, field: str) -> float:
    """A field of /proc/PID/status in MB: VmRSS, the resident set now, or VmHWM, the largest so far."""
    (line,) = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return float(line.split()[1]) / KIB_OF_A_MB
