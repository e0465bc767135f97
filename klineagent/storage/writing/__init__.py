"""The one task that writes klines, and how it gets batches into the store."""
