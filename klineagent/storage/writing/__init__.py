"""The writer: buffers klines, and inserts them into the store in batches."""
