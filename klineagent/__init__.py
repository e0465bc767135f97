"""Keeps Binance candlesticks (klines) flowing, with none missing, into ClickHouse."""

__version__ = "0.1.0"
