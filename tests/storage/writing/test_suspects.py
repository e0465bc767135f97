"""A queue of suspect parts that counts rows by series."""

from klineagent.storage.store import Batch, Table
from klineagent.storage.writing.suspects import Suspects
from tests.klines import a_kline

BTC = a_kline(0)
ETH = a_kline(0)._replace(symbol="ETHUSDT")
PARTS = [Batch("a", (BTC, ETH)), Batch("b", (BTC,), Table.UPDATES), Batch("c", (ETH,))]


def test_parts_come_in_turn_unless_the_last_is_wanted_first() -> None:
    """The order in which they were added."""
    suspects = Suspects()
    for part in PARTS:
        suspects.add(part)
    assert list(suspects) == PARTS
    suspects.put_last_first()
    assert suspects.first == PARTS[2]


def test_a_series_is_suspected_as_long_as_one_of_its_rows_is_there() -> None:
    """In each table for itself."""
    suspects = Suspects()
    for part in PARTS:
        suspects.add(part)
    assert suspects.rows == 4
    suspects.remove_first()
    assert set(suspects.series) == {
        (Table.UPDATES, "usdm", "BTCUSDT", "1m"),
        (Table.KLINES, "usdm", "ETHUSDT", "1m"),
    }
    suspects.clear()
    assert (len(suspects), suspects.rows, set(suspects.series)) == (0, 0, set())
