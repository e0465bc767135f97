"""Binance seen from the client side: its venues, its clock, its REST API, its streams."""
