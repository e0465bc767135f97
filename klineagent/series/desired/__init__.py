"""The set of series that should run, and how the registry follows it."""
