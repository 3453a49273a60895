"""What developing and trying the operator needs: a cluster, a database, and the demo. Never shipped."""
