"""Files that hold what the database cannot take at the moment."""
