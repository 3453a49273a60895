"""What becomes of a job: decided from its state and what happened, never from when it was asked."""
