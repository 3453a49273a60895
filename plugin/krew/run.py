"""Runs the command in the environment that the script beside this file has made, which was moved after it had been made."""

from kubectl_embeddings.app import app

app(prog_name="kubectl-embeddings")
