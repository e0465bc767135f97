"""One (symbol, interval): what is known of it, its subscription, and the set of those that run."""
