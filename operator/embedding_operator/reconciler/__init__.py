"""Due rows become jobs, and finished jobs go: from what is, never from what an event said."""
