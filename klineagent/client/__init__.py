"""A running agent, seen from the command line."""
