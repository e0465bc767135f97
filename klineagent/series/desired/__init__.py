"""The desired set of series: selections, their file, and the registry's reconciliation."""
