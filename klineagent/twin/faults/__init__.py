"""What goes wrong on demand: `faults` and `lies` hold what is active, the others do it, purely."""
