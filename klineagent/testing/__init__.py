"""Simulations of whole agents, and pytest fixtures, for our tests and yours; see `examples/`."""
