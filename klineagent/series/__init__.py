"""Series, each one (symbol, interval): ledger, subscription, statistics, and their registry."""
