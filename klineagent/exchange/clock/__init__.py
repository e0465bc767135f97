"""What time it is at the exchange, as far as its witnesses agree."""
