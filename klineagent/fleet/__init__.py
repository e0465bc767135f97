"""This agent among others: registration with a manager, its row in `agents`."""
