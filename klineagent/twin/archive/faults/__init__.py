"""Faults of the archive: of its files and of its answers."""
