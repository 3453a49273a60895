"""A Kubernetes API server with its etcd, built from pinned Go modules and run as plain processes."""
