"""`python -m hack.control_plane`, which is what the script hack/cluster runs."""

from hack.control_plane.cli import app

app(prog_name="hack/cluster")
