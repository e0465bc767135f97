"""Stream sockets: the protocol, and the I/O around it."""
