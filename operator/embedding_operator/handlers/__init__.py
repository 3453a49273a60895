"""kopf's side: what the API server shows is parsed here, given to those who decide and act, and patched back."""
