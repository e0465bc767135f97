"""Which events streams get, and when."""
