"""The same trading bots against the exchange, a caching proxy and klineagent."""
