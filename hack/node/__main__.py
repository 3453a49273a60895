"""`make e2e-down`: what an end-to-end test that was killed has left of its node goes from this machine."""

from hack.node.node import clean_up, node_folder, only_node

with only_node(print):
    left = node_folder().exists()
    clean_up(node_folder())
print("the node is cleaned up" if left else "there is no node, nothing to clean up")
