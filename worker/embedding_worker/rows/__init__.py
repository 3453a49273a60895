"""The row store: what is due, what is fresh, and the writes that may never be wrong. PostgreSQL is the truth."""
