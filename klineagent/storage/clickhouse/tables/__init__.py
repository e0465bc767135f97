"""The tables: their schema, and upgrades of tables of earlier versions."""
