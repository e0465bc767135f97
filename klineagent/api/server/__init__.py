"""Listening at an address, and bounds on what a client may take."""
