"""Binance as a client sees it: venues, clock, REST API, request budget, streams."""
