"""Measurements whose figures stand in the documents. Each is started by hand, with the command that stands beside its figures."""
