"""The proof: whole agents on a virtual clock, under seeded faults, and what must hold then."""
