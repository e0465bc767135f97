"""ClickHouse as a store: a server, or the engine in this process."""
