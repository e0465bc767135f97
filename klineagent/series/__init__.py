"""One (symbol, interval) subscription and the set of those that run."""
