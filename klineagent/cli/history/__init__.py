"""Commands about the past: what is imported from the exchange's archive."""
