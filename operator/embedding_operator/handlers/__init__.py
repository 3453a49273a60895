"""kopf's side: what the watches show is parsed here and passed on. Nothing is decided here, and nothing is patched by kopf."""
