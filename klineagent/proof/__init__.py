"""The proof: whole agents on a virtual clock, under seeded faults, compared with an oracle."""
