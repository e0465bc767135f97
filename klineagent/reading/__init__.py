"""Candles for programs that read: what they ask for, and complete answers to it."""
