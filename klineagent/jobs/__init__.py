"""What an agent does beside recording, one thing at a time: imports of the past."""
