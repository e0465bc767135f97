"""The exchange twin: an exchange of our own that behaves like Binance, on sockets or in memory."""
