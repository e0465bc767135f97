"""Websocket connections: which streams they carry, and how their frames become klines."""
