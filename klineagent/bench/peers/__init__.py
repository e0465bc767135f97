"""The comparison of the agent with other clients that receive the same frames."""
