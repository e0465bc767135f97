"""The commands beside those to a running agent: options to `Config`, then run. Nothing else."""
