"""Programs that are started here: their environment, their life, and locks between processes."""
