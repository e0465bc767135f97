"""What every part may know: klines, intervals, errors, addresses, retries."""
