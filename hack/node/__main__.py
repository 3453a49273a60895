"""`make e2e-down` removes what a killed end-to-end test left of its node on this machine."""

from hack.node.node import clean_up, hold_node_lock, node_folder

with hold_node_lock(print):
    existed = node_folder().exists()
    clean_up(node_folder())
print("the node is cleaned up" if existed else "there is no node to clean up")
