"""The past: the exchange's public archive, what to take from it, and the exchange for the rest."""
