"""Arguments that several commands take; what cannot be meant is told with the argument's name."""

from __future__ import annotations

from klineagent.config.converters import to_intervals, to_symbol
from klineagent.core.errors import ConfigError
from klineagent.core.kline import Interval
from klineagent.exchange.venues import Venue


def read_symbol(text: str) -> str:
    """SYMBOL, in capitals, whether it exists or not.

    Raises:
        ConfigError: it cannot be one.
    """
    try:
        return to_symbol(text)
    except ValueError as error:
        raise ConfigError(f"SYMBOL: {error}") from error


def read_interval(text: str, venue: Venue | None = None) -> Interval:
    """INTERVAL, of those of `venue` or of any.

    Raises:
        ConfigError: there is none such.
    """
    try:
        [interval] = to_intervals([text], venue)
    except ValueError as error:
        raise ConfigError(f"INTERVAL: {error}") from error
    return interval
