"""The exchange, seen from the client side."""
