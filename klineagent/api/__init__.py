"""The command and status apps: who may ask, what is asked, how long it takes."""
