"""The simplest strategy: in while the price rises, out when it falls. It is no advice."""

from freqtrade.strategy import IStrategy
from pandas import DataFrame


class Rising(IStrategy):  # type: ignore[misc]
    """Enter after a candle that closed higher than the one before, exit after one that did not."""

    timeframe = "1m"
    minimal_roi = {"0": 1}  # noqa: RUF012 - freqtrade's own way
    stoploss = -0.5
    startup_candle_count = 30

    def populate_indicators(self, dataframe: DataFrame, metadata: dict[str, str]) -> DataFrame:
        """Add the change of the close."""
        dataframe["change"] = dataframe["close"].diff()
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict[str, str]) -> DataFrame:
        """Mark candles after which to enter."""
        dataframe.loc[dataframe["change"] > 0, "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict[str, str]) -> DataFrame:
        """Mark candles after which to exit."""
        dataframe.loc[dataframe["change"] < 0, "exit_long"] = 1
        return dataframe
