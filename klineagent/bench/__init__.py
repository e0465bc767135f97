"""Benchmarks: the agent as it is served, and other clients, measured against the exchange twin."""
