"""The command line: options and what they become, a module per command."""
