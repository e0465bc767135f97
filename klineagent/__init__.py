"""Keeps Binance candlesticks (klines) flowing, with none missing, into ClickHouse."""

__version__ = "0.2.0"
