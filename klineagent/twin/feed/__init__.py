"""What is sent to streams, and when."""
