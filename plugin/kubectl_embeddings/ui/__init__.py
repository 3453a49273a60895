"""`kubectl embeddings ui`: a read-only page on this machine, with the rights of the user's kubeconfig."""
