"""Commands to a running agent."""
