"""The cluster that a command works on: the given one, one of kind, or a control plane or node of this machine."""
