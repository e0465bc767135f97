"""The calls, a module for each subject, and how their answers are worked out."""
