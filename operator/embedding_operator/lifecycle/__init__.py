"""Pure decisions about jobs and sources: from their state and what happened to what is written next."""
