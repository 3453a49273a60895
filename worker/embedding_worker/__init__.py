"""The data plane: rows, their text, and the vectors made from it. Knows no Kubernetes."""
