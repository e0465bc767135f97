"""The agent in a fleet: registration with a fleet manager, and its heartbeat row."""
