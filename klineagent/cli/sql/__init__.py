"""SQL and exports: on a snapshot of an embedded database, recording or not, or on a server."""
