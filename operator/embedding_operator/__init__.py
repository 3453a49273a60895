"""The control plane: resources, the reconciler, the handlers and the process around them."""
