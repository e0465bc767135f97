"""Backfill of missing candles: startup scan, requests and proofs, audit, known gaps."""
