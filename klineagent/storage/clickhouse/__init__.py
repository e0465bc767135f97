"""ClickHouse as a store: a server, or the engine embedded in this process."""
