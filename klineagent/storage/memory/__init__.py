"""The store and the disk of simulations: no threads, faults on demand."""
