"""This process among others: its logs, its signals, its service manager."""
