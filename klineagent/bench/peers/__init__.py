"""The same frames through the agent and through other clients."""
