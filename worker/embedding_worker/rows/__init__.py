"""The row store: what is due, what is up to date, and the conditional writes. PostgreSQL is the source of truth."""
