"""A real Kubernetes API server for trying and testing, built from pinned Go modules and run as plain processes."""
