"""The process: logs, signals, service manager."""
