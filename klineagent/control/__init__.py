"""The HTTP side: command and status servers."""
