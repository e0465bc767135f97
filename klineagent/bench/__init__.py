"""Measuring: the agent as it is served, and others of its kind, against the exchange twin."""
