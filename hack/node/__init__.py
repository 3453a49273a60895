"""A Kubernetes node on this very machine, for real pods where no container engine runs: Linux, as root."""
