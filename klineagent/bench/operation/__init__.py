"""Recording under a load of HTTP requests, compared with recording undisturbed."""
