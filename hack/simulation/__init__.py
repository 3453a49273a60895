"""`make simulate`: a day of provider weather on a virtual clock, and what became of each row (docs/reliability.md)."""
