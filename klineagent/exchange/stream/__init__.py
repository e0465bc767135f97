"""Websocket connections: what they carry, and how their frames become klines."""
