"""Where klines are kept: stores, their schema, and the writer in front of them."""
