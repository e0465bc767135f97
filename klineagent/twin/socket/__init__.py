"""Websocket connections of clients: the protocol without I/O, and the I/O around it."""
