"""Finding out what a series lacks, and fetching it."""
