"""Markets: symbols and their 1m candles, made up or from the archive, and longer candles."""
