"""The demo: an invented Yellow Book, kept fresh by the operator on this machine or on kind."""
