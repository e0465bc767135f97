"""The calls, a module for each subject."""
