"""PostgreSQL with pgvector for tests and demo: the given server, or an embedded one."""
