"""A Kubernetes node on this machine, for pods where no container engine runs. It needs Linux and root."""
