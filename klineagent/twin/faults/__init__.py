"""Faults of the exchange on demand: failures, and lies that are well-formed and untrue."""
