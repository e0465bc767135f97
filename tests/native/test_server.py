"""The server as clickhouse-driver sees it, which nobody here wrote."""

from __future__ import annotations

import datetime as dt
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException
from clickhouse_driver.protocol import ServerPacketTypes

from tests.native.fixture import ModernServer

KLINES = """
CREATE TABLE klines (
    symbol LowCardinality(String), interval LowCardinality(String),
    open_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    close Float64 CODEC(ZSTD(1)), trades UInt32 CODEC(T64, ZSTD(1)),
    is_closed Bool, version UInt64 CODEC(Delta(8), ZSTD(1)),
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(open_time) ORDER BY (symbol, interval, open_time)
SETTINGS non_replicated_deduplication_window = 10000
"""
INSERT_KLINES = (
    "INSERT INTO klines (symbol, interval, open_time, close, trades, is_closed, version) VALUES"
)
# The first revisions with another field in a packet.
GATES = (
    54_058, 54_060, 54_372, 54_401, 54_410, 54_420,
    54_429, 54_441, 54_442, 54_448, 54_449, 54_453,
)  # fmt: skip
REVISIONS = [54_032, *(gate - before for gate in GATES for before in (1, 0))]
ROW = ("BTCUSDT", "1m", 1_767_225_600_000, 88_000.5, 17, True, 3)


@contextmanager
def refused(code: int, text: str) -> Iterator[None]:
    """The `with` block ends in this error of the server."""
    with pytest.raises(ServerException, match=text) as caught:
        yield
    assert caught.value.code == code


def test_results_come_from_the_modern_engine(client: Client) -> None:
    """A query is answered by the version that the greeting told."""
    ((version,),) = client.execute("SELECT version()")
    assert version.startswith("26.9.")
    assert client.connection.server_info.version_tuple()[:2] == (26, 9)


def test_the_types_of_a_recorder_survive(client: Client) -> None:
    """What one inserts as rows comes back as rows, with the columns' types."""
    columns = [
        ("name", "LowCardinality(String)"),
        ("time", "DateTime64(3, 'UTC')"),
        ("price", "Nullable(Float64)"),
        ("closed", "Bool"),
        ("tags", "Array(String)"),
    ]
    definition = ", ".join(" ".join(column) for column in columns)
    client.execute(f"CREATE TABLE t ({definition}) ENGINE = MergeTree ORDER BY name")
    rows = [
        ("a", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None, True, ["x", ""]),
        ("b", dt.datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=dt.UTC), 0.5, False, []),
    ]
    assert client.execute("INSERT INTO t VALUES", rows) == 2
    stored, types = client.execute("SELECT * FROM t ORDER BY name", with_column_types=True)
    assert [(*row[:1], row[1].replace(tzinfo=dt.UTC), *row[2:]) for row in stored] == rows
    assert types == columns


def test_nested_types_survive(client: Client) -> None:
    """The engine's own blocks are split where they end, also between composed columns."""
    query = """
        SELECT map('a', toLowCardinality('b')),
               CAST((1, (2, 'c')), 'Tuple(x UInt8, y Tuple(Int64, String))'),
               [[NULL, toDecimal64(1.5, 4)], []],
               toFixedString('de', 3),
               toUUID('%s'),
               CAST('x', 'Enum8(\\'x\\' = 1)'),
               CAST([], 'Array(LowCardinality(Nullable(String)))')
        FROM numbers(3)
    """
    unique = uuid.UUID(int=7)
    row: tuple[object, ...] = (
        {"a": "b"},
        (1, (2, "c")),
        [[None, Decimal("1.5")], []],
        "de",
        unique,
        "x",
        [],
    )
    assert client.execute(query % unique) == [row] * 3


def test_a_type_beyond_the_server_is_named(client: Client) -> None:
    """A result that cannot be split is refused with the type's name, and the line is closed."""
    with refused(344, "JSON"):
        client.execute("SELECT CAST('{}', 'JSON')")


def test_an_empty_result_tells_its_columns(client: Client) -> None:
    """A result without rows still has names and types."""
    result = client.execute("SELECT 1 AS a, 'x' AS b WHERE 0", with_column_types=True)
    assert result == ([], [("a", "UInt8"), ("b", "String")])


def test_statements_without_a_result_have_none(client: Client) -> None:
    """DDL and SET answer nothing, not even columns."""
    assert client.execute("CREATE TABLE t (a UInt8) ENGINE = Memory", with_column_types=True) == (
        [], []
    )  # fmt: skip
    assert client.execute("SET max_threads = 1") == []
    assert client.execute("SHOW TABLES") == [("t",)]


def test_a_long_result_comes_in_blocks(client: Client) -> None:
    """Blocks arrive one by one and make up the whole result."""
    blocks = client.execute_iter(
        "SELECT number FROM numbers(25000)", settings={"max_block_size": 10_000}
    )
    assert [number for (number,) in blocks] == list(range(25_000))
    client.execute("SELECT number FROM numbers(25000)", settings={"max_block_size": 10_000})
    assert client.last_query.profile_info.blocks == 3
    assert client.last_query.profile_info.rows == 25_000


def test_errors_are_those_of_the_engine(client: Client) -> None:
    """Errors carry the engine's code and text, and the next query is answered."""
    with refused(60, "nope"):
        client.execute("SELECT * FROM nope")
    with refused(62, "Syntax error"):
        client.execute("SELECT (1")
    assert client.execute("SELECT 1") == [(1,)]


def test_an_error_can_follow_blocks(client: Client) -> None:
    """A query that fails midway has sent what it had, and then its error."""
    rows = client.execute_iter(
        "SELECT throwIf(number = 25000) FROM numbers(30000)",
        settings={"max_block_size": 10_000, "max_threads": 1},
    )
    with refused(395, "throwIf"):
        for _ in rows:
            pass
    assert client.execute("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    ("head", "code"),
    [("INSERT INTO nope VALUES", 60), ("INSERT INTO klines (nope) VALUES", 16)],
)
def test_an_insert_can_fail_before_its_rows(client: Client, head: str, code: int) -> None:
    """A missing table or column is told instead of the sample block."""
    client.execute(KLINES)
    with refused(code, "nope"):
        client.execute(head, [(1,)])
    assert client.execute("SELECT 1") == [(1,)]


def test_an_insert_can_fail_after_its_rows(client: Client) -> None:
    """A broken constraint is told after the data, and none of it is stored."""
    client.execute(
        "CREATE TABLE t (a UInt8, CONSTRAINT small CHECK a < 9) ENGINE=MergeTree ORDER BY a"
    )
    with refused(469, "small"):
        client.execute("INSERT INTO t VALUES", [(1,), (10,)])
    assert client.execute("SELECT count() FROM t") == [(0,)]
    assert client.execute("INSERT INTO t VALUES", [(1,)]) == 1


def test_too_many_partitions_are_refused(client: Client) -> None:
    """The error that shares its code with too many parts is the engine's own."""
    client.execute("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a PARTITION BY a")
    with refused(252, "Too many partitions"):
        client.execute("INSERT INTO t VALUES", [(number,) for number in range(101)])


def test_a_token_is_stored_once(client: Client) -> None:
    """Inserts retried under one token leave one row, other tokens and no token one each."""
    client.execute(KLINES)
    for token in ("a", "a", "b", "a"):
        settings = {"insert_deduplication_token": token, "async_insert": 0}
        assert client.execute(INSERT_KLINES, [ROW], settings=settings) == 1
    client.execute(INSERT_KLINES, [ROW])
    assert client.execute("SELECT count() FROM klines") == [(3,)]
    assert client.execute("SELECT close, is_closed FROM klines FINAL") == [(88_000.5, True)]


def test_a_token_in_the_statement_is_stored_once(client: Client) -> None:
    """SETTINGS inside of an INSERT count: under a known token even other rows are dropped."""
    client.execute(KLINES)
    head = INSERT_KLINES.replace("VALUES", "SETTINGS insert_deduplication_token = 'a' VALUES")
    client.execute(head, [ROW])
    client.execute(head, [("ETHUSDT", *ROW[1:])])
    assert client.execute("SELECT symbol FROM klines") == [("BTCUSDT",)]


def test_an_insert_may_come_in_many_blocks(client: Client) -> None:
    """Rows of all blocks are stored by one INSERT, omitted columns by their defaults."""
    client.execute("CREATE TABLE t (a UInt32, b String DEFAULT 'x') ENGINE = MergeTree ORDER BY a")
    rows = [(number,) for number in range(2_500)]
    client.execute("INSERT INTO t (a) VALUES", rows, settings={"insert_block_size": 1_000})
    assert client.execute("SELECT count(), sum(a), any(b) FROM t") == [(2_500, 3_123_750, "x")]


def test_an_insert_is_told_the_defaults_of_its_table(client: Client) -> None:
    """Before the sample block comes what is inserted where a column is left out."""
    client.execute(KLINES)
    connection = client.connection
    connection.send_query(INSERT_KLINES)
    connection.send_external_tables([])
    packet = connection.receive_packet()
    assert packet.type == ServerPacketTypes.TABLE_COLUMNS
    table, columns = packet.multistring_message
    assert table == ""
    assert columns.startswith("columns format version: 1\n8 columns:\n`symbol` LowCardinality(")
    assert columns.endswith(
        "\n`inserted_at` DateTime64(3, \\'UTC\\')\tDEFAULT\tnow64(3, \\'UTC\\')\n"
    )
    assert [name for name, _ in connection.receive_packet().block.columns_with_types] == [
        "symbol", "interval", "open_time", "close", "trades", "is_closed", "version"
    ]  # fmt: skip


def test_an_insert_may_have_no_rows(client: Client) -> None:
    """No rows are no error."""
    client.execute(KLINES)
    assert client.execute(INSERT_KLINES, []) == 0


def test_rows_without_their_end_are_not_stored(client: Client, url: str) -> None:
    """A client that dies inside of an INSERT leaves nothing behind."""
    client.execute("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")

    def rows() -> Iterator[tuple[int]]:
        yield (1,)
        dying.connection.socket.shutdown(socket.SHUT_RDWR)
        yield (2,)

    dying = Client.from_url(url)
    dying.execute("SELECT 1")
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        dying.execute("INSERT INTO t VALUES", rows(), settings={"insert_block_size": 1})
    dying.disconnect()
    assert client.execute("SELECT count() FROM t") == [(0,)]


def test_settings_last_for_one_query(client: Client) -> None:
    """A query's settings end with it, those of SET stay, unknown ones are ignored."""
    question = "SELECT getSetting('max_threads'), getSetting('max_block_size')"
    client.execute("SET max_threads = 3")
    sent = {"max_threads": 5, "max_block_size": 77, "a_setting_of_tomorrow": 1}
    assert client.execute(question, settings=sent) == [(5, 77)]
    ((threads, block_size),) = client.execute(question)
    assert threads == 3
    assert block_size != 77


def test_an_unknown_setting_that_matters_is_refused(url: str) -> None:
    """A client that insists on its settings is told that there is no such one."""
    client = Client.from_url(f"{url}?settings_is_important=1")
    with refused(115, "a_setting_of_tomorrow"):
        client.execute("SELECT 1", settings={"a_setting_of_tomorrow": 1})
    client.disconnect()


def test_a_result_can_be_cancelled(client: Client) -> None:
    """A client that has seen enough says so and goes on."""
    for _ in client.execute_iter("SELECT number FROM numbers(1000000000)"):
        break
    client.cancel()
    assert client.execute("SELECT 1") == [(1,)]


@pytest.mark.parametrize("revision", REVISIONS)
def test_older_dialects_are_spoken(url: str, revision: int) -> None:
    """A client of any revision pings, inserts, reads and is told its errors."""
    client = Client.from_url(f"{url}?send_receive_timeout=5")
    client.connection.client_revision = revision
    # Before that, settings have types that only their names tell.
    settings = {"insert_deduplication_token": "a"} if revision >= 54_429 else {}
    client.execute(KLINES)
    client.execute(INSERT_KLINES, [ROW], settings=settings)
    assert client.connection.ping()
    assert client.execute("SELECT symbol, trades FROM klines") == [("BTCUSDT", 17)]
    assert client.connection.server_info.get_timezone() == (
        None if revision < 54_058 else "Etc/UTC"
    )
    with refused(60, "nope"):
        client.execute("SELECT * FROM nope")
    client.disconnect()


def test_clients_have_sessions_of_their_own(client: Client, url: str) -> None:
    """What one client sets, another does not see."""
    other = Client.from_url(url)
    client.execute("SET max_threads = 3")
    assert other.execute("SELECT getSetting('max_threads') = 3") == [(0,)]
    other.disconnect()


def test_a_wrong_password_is_refused(server: ModernServer) -> None:
    """The greeting is answered by the error a real server gives."""
    client = Client.from_url(server.url_of("market", password="wrong"))
    with refused(516, "Authentication failed"):
        client.execute("SELECT 1")


def test_an_unknown_database_is_refused(server: ModernServer) -> None:
    """The greeting's database must exist."""
    client = Client.from_url(server.url_of("nowhere"))
    with refused(81, "nowhere"):
        client.execute("SELECT 1")


def test_a_stranger_is_told_why_it_is_refused(server: ModernServer) -> None:
    """Who speaks another protocol gets a reason before the line is closed."""
    with socket.create_connection(("127.0.0.1", server.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"instead of a Hello" in stranger.makefile("rb").read()
