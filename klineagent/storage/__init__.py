"""Where klines are kept: what every store promises, and where a URL leads."""
