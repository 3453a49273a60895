"""The demo: a Yellow Book of businesses, and what somebody would search it for."""
