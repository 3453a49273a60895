"""Tools for developing and trying the operator. They are never part of its image; README.md lists the folders."""
