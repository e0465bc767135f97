"""The exchange twin: a Binance that runs here, on sockets or memory streams."""
