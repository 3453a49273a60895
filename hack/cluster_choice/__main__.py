"""`python -m hack.cluster_choice` is what the script hack/cluster runs."""

from hack.cluster_choice.cli import app

app(prog_name="hack/cluster")
