"""What is traded: symbols and their candles, made up or replayed."""
