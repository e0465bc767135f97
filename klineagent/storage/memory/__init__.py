"""Store and disk in memory, for simulations: no threads, faults on demand."""
