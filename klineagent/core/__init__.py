"""The base that every part may import: klines, intervals, errors, addresses, retries."""
