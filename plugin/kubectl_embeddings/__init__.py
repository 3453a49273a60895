"""`kubectl embeddings`: what a person does with sources, jobs and dead letters, with the rights of their own kubeconfig."""
