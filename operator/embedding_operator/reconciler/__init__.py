"""Makes due rows into jobs, runs the jobs, and removes finished ones: from the present state, never from an event alone."""
