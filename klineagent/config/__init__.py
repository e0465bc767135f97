"""Configuration: the settings, what may be written for each, and where they are read from."""
