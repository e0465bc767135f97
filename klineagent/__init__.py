"""Keeps Binance candlesticks (klines) flowing, with none missing, into ClickHouse."""

from importlib.metadata import version

__version__ = version("klineagent")
