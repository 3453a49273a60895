"""`make recall`: how well, how fast and with how much memory models answer searches over the demo's businesses."""
