"""Upgrades of tables of an earlier version; `earlier/` has the SQL of commit 3f94213."""

from __future__ import annotations

import ast
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
import trio
from attrs import evolve

from klineagent.core.errors import StoreError, StoreMisconfigured
from klineagent.core.interval import MINUTE_MS
from klineagent.core.kline import Kline
from klineagent.storage.clickhouse.embedded import EmbeddedStore
from klineagent.storage.clickhouse.server import ClickHouseStore, open_clickhouse
from klineagent.storage.clickhouse.tables import migrations as migration
from klineagent.storage.clickhouse.tables.preparation import preparing
from klineagent.storage.clickhouse.tables.schema import EMBEDDED, LEGACY, TABLES
from klineagent.storage.opening import open_store
from klineagent.storage.store import Batch, Store, Table
from klineagent.storage.url import ServerLocation, locate
from tests.native.fixture import ModernServer
from tests.places import EARLIER
from tests.servers import PASSWORD, InstalledServer, free_port, installed_clickhouse
from tests.storage.samples import FIRST_OPEN, fetched_candle, sample
from tests.storage.test_store import rows_of

DATABASES = ["chdb", "installed_server", "modern_server"]
CUT_OPEN, CUT_CLOSE = 1_515_034_800_000, 1_515_034_814_838
"""A candle that maintenance cut short, at whatever interval."""


async def run(store: Store, statement: str) -> None:
    """Run SQL of an earlier agent, an operator or another agent."""
    match store:
        case ClickHouseStore():
            query, _, values = statement.partition(" VALUES ")
            rows = [tuple(map(_value, row)) for row in ast.literal_eval(f"[{values}]")]
            sent = (f"{query} VALUES", rows) if rows else (query,)
            await store._thread.run(store._connections.reads.execute, *sent)
        case EmbeddedStore():
            await store._reading.run(lambda session: session.query(statement, "TSV"))


def _value(value: object) -> object:
    """A time is in quotes, where bare numbers would be seconds."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def database_of(store: Store) -> str:
    """Its name."""
    return store._server.database if isinstance(store, ClickHouseStore) else "market"


def statements_of(store: Store, kind: str) -> Iterator[str]:
    """The SQL of the earlier agent for this database."""
    for line in (EARLIER / f"{kind.removesuffix('_server')}.sql").read_text().splitlines():
        yield line.replace("`DATABASE`", f"`{database_of(store)}`")


@asynccontextmanager
async def earlier(url: str, kind: str) -> AsyncIterator[Store]:
    """A store that an earlier agent has used, opened by today's."""
    async with open_store(url) as store:
        for statement in statements_of(store, kind):
            await run(store, statement)
        yield store


@pytest.fixture(params=DATABASES)
def kind(request: pytest.FixtureRequest) -> str:
    """Which database."""
    name: str = request.param
    return name


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> str:
    """An empty database of that kind."""
    if kind == "chdb":
        pytest.importorskip("chdb")
        return f"chdb://{tmp_path}/klines"
    return str(request.getfixturevalue(kind).url_of(f"earlier_{free_port()}"))


BTC = ("usdm", "BTCUSDT", "1m")


async def test_tables_of_an_earlier_agent_are_used_without_loss(url: str, kind: str) -> None:
    """Old rows stay, with an unknown source; new ones have a source and the right version."""
    async with earlier(url, kind) as store:
        await store.prepare()
        before = await store.final_klines(*BTC)
        assert [kline.open_time for kline in before] == [sample(at).open_time for at in range(5)]
        assert before[1].close == 2.01  # it had been healed after the event
        assert {kline.source for kline in before} == {"unknown"}
        states = await store.updates(*BTC)
        assert len(states) == (12 if kind == "installed_server" else 0)  # others drop old ones
        new = sample(5)._replace(event_time=time.time_ns() // 1_000_000)
        await store.insert(Batch("new", (sample(5), fetched_candle(0))))
        await store.insert(Batch("news", (new,), Table.UPDATES))
        after = await store.final_klines(*BTC)
        assert after == [*before, sample(5)]
        assert await store.updates(*BTC) == [*states, new]
        rows = await rows_of(store, "SELECT source, count() FROM {db}.klines_final GROUP BY source")
        assert dict(rows)["stream"] == 1
        assert await rows_of(store, "SELECT max(version) FROM {db}.klineagent_schema") == [(2,)]


async def test_who_only_reads_needs_no_migration(url: str, kind: str) -> None:
    """`show` says that the source is unknown, and changes nothing."""
    async with earlier(url, kind):
        pass
    async with open_store(url, may_create=False) as store:
        assert {kline.source for kline in await store.final_klines(*BTC)} == {"unknown"}
        assert {kline.source for kline in await store.updates(*BTC)} <= {"unknown"}
        columns = await rows_of(
            store,
            "SELECT count() FROM system.columns WHERE name = 'source' AND database ="
            f" '{database_of(store)}'",
        )
        assert columns == [(0,)]


@pytest.mark.parametrize("column", ["taker_buy_quote_volume", "first_trade_id", "inserted_at"])
async def test_any_column_that_can_be_made_up_is_added(url: str, kind: str, column: str) -> None:
    """Each missing column is added, and the view has it."""
    async with open_store(url) as store:
        for statement in list(statements_of(store, kind))[:4]:
            await run(store, _without(statement, column))
        await store.insert(Batch("a", (sample(0),)))
        assert await store.final_klines(*BTC) == [sample(0)]


def _without(statement: str, column: str) -> str:
    """A CREATE without one column and its readable shadow."""
    head, mark, tail = statement.partition(") ENGINE")
    parts = head.split(", `")
    kept = [part for part in parts if not part.startswith((f"{column}`", f"{column}_utc`"))]
    if not mark:  # the view
        return statement.replace(f", `{column}_utc`", "")
    return ", `".join(kept) + mark + tail


async def test_dying_between_any_two_steps_ends_well(url: str, kind: str) -> None:
    """Whatever an agent before had done already, the next one does the rest."""
    async with earlier(url, kind) as store:
        expected = await _all_rows(store)
        steps = 0
        while True:
            try:
                await _prepare_but(store, steps)
            except _Died:
                steps += 1
            else:
                break
        assert steps >= 3
        # Candles that one key took for the same may have become several again.
        assert set(expected) <= set(await _all_rows(store))
        await store.insert(Batch("a", (sample(9),)))
        assert await store.final_kline(*sample(9).key) == sample(9)


class _Died(Exception):
    """The process is gone."""


async def _prepare_but(
    store: Store, steps: int, before_each: Callable[[str], Awaitable[None]] | None = None
) -> None:
    """Prepare the tables with an agent that dies after so many changes."""
    changes = 0
    dialect = EMBEDDED if isinstance(store, EmbeddedStore) else None
    agent = preparing(database_of(store), dialect)
    query = next(agent)
    while True:
        if before_each is not None:
            await before_each(query)
        if not query.startswith("SELECT"):
            changes += 1
            if changes > steps:
                raise _Died
        rows = await rows_of(store, query.replace("{", "{{").replace("}", "}}"))
        try:
            query = agent.send(rows)
        except StopIteration:
            return


async def test_what_an_earlier_agent_writes_meanwhile_is_in_the_new_table(
    installed_server: InstalledServer,
) -> None:
    """Whatever month it is of, and whenever it was acknowledged; states as well as candles."""
    url = installed_server.url_of(f"earlier_{free_port()}")
    async with earlier(url, "installed_server") as store:
        taken: list[Kline] = []
        numbers = count(1)

        async def write(query: str) -> None:
            del query
            number = next(numbers)
            kline = sample(-number - number % OLD_MONTHS * 31 * 24 * 60, source="unknown")
            try:
                for table in ("klines", "kline_updates"):
                    await run(store, _as_earlier(database_of(store), table, kline))
            except StoreError:  # it is between two names, and the agent keeps its rows
                return
            taken.append(kline)

        for _ in range(OLD_MONTHS):
            await write("")
        await _prepare_but(store, steps=1000, before_each=write)
        assert len(taken) > 3 * OLD_MONTHS
        found = set(await store.final_klines(*BTC))
        assert set(taken) <= found
        assert set(taken) <= set(await store.updates(*BTC))


async def test_what_is_corrected_after_a_copy_was_begun_is_in_the_new_table(
    installed_server: InstalledServer,
) -> None:
    """An agent has died when it had copied, and an earlier one has gone on for a while."""
    url = installed_server.url_of(f"earlier_{free_port()}")
    async with earlier(url, "installed_server") as store:
        old = sample(-200 * 24 * 60, source="unknown")
        await run(store, _as_earlier(database_of(store), "klines", old))

        async def die(query: str) -> None:
            if query.startswith("RENAME"):
                raise _Died

        with pytest.raises(_Died):
            await _prepare_but(store, steps=1000, before_each=die)
        corrected = old._replace(close=old.close + 1, version=old.version + 2)
        await run(store, _as_earlier(database_of(store), "klines", corrected))
        await store.prepare()
        assert (await store.final_klines(*BTC))[0] == corrected


OLD_MONTHS = 6


def _as_earlier(database: str, table: str, kline: Kline) -> str:
    """The INSERT of an earlier agent."""
    names = Kline._fields[:19]
    values = {**kline._asdict(), "is_closed": int(kline.is_closed)}
    columns = ", ".join(f"`{name}`" for name in names)
    row = tuple(values[name] for name in names)
    return f"INSERT INTO `{database}`.{table} ({columns}) VALUES {row!r}"


async def _all_rows(store: Store) -> list[tuple[object, ...]]:
    database = database_of(store)
    query = f"SELECT * FROM `{database}`.klines_final ORDER BY symbol, `interval`, open_time"
    names = ", ".join(f"`{name}`" for name in Kline._fields[:19])
    return await rows_of(store, query.replace("*", names))


@pytest.mark.parametrize("turn", range(3))
async def test_agents_that_start_at_once_do_not_harm_each_other(
    request: pytest.FixtureRequest, turn: int
) -> None:
    """All find the same tables in the end, and every row."""
    del turn
    for kind in ("installed_server", "modern_server"):
        url = request.getfixturevalue(kind).url_of(f"earlier_{free_port()}")
        async with earlier(url, kind) as store:
            expected = await _all_rows(store)

            async def prepare(url: str = url) -> None:
                async with open_store(url) as other:
                    await other.prepare()

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(prepare)
            assert set(expected) <= set(await _all_rows(store))
            await store.insert(Batch("a", (sample(9),)))
            assert await store.final_kline(*sample(9).key) == sample(9)


async def test_newer_tables_are_refused_by_name(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence says which version is needed; nothing is written."""
    monkeypatch.setattr(migration, "SCHEMA_VERSION", 7)
    monkeypatch.setattr(migration, "__version__", "4.5.6")
    async with open_store(url) as store:
        await store.prepare()
    monkeypatch.undo()
    async with open_store(url) as store:
        with pytest.raises(StoreMisconfigured, match=r"made by klineagent 4\.5\.6 \(schema 7\)"):
            await store.prepare()
    async with open_store(url, may_create=False) as store:
        assert await store.summary() == []


def cut(interval: str, close: float = 1.0) -> Kline:
    """The candle of 2018-01-04 03:00, which ended within its first minute at all intervals."""
    return sample(
        interval=interval,
        open_time=CUT_OPEN,
        close_time=CUT_CLOSE,
        close=close,
        venue="spot",
        # Now, for the servers' clock decides what is too old to be kept.
        event_time=time.time_ns() // 1_000_000,
    )


INTERVALS = ["1m", "5m", "15m", "1h", "1d"]


async def test_candles_cut_short_are_kept_at_every_interval(store: Store) -> None:
    """They all end in the same millisecond, and are distinguished all the same."""
    candles = [cut(interval) for interval in INTERVALS]
    await store.insert(Batch("a", tuple(candles)))
    await store.insert(Batch("b", tuple(candles), Table.UPDATES))
    for candle in candles:
        assert await store.final_klines(*candle.key[:3]) == [candle]
        assert await store.updates(*candle.key[:3]) == [candle]


async def test_a_corrected_close_time_is_no_second_candle(store: Store) -> None:
    """Whatever its close time, it stays one candle; the highest version wins."""
    whole = sample(0)
    short = whole._replace(close_time=whole.open_time + 14_838, version=whole.version - 2)
    await store.insert(Batch("a", (short,)))
    await store.insert(Batch("b", (whole,)))
    assert await store.final_klines(*BTC) == [whole]


async def test_an_old_server_starts_again_after_the_migration(tmp_path: Path) -> None:
    """Nothing is written down that it cannot read; the kept table has what was there."""
    with installed_clickhouse(tmp_path / "server") as server:
        async with earlier(server.url_of("market"), "installed_server") as store:
            await store.prepare()
            await store.insert(Batch("cut", tuple(cut(interval, 5.0) for interval in INTERVALS)))
            expected = await _all_rows(store)
    with installed_clickhouse(tmp_path / "server") as server:
        async with open_store(server.url_of("market")) as store:
            assert await _all_rows(store) == expected
            assert len(expected) >= 9 + len(INTERVALS)
            for name, rows in (("klines_before_2", 20), ("kline_updates_before_2", 12)):
                assert await rows_of(store, f"SELECT count() FROM {{db}}.{name}") <= [(rows,)]


async def test_an_earlier_agent_may_go_on_beside_a_newer_one(
    installed_server: InstalledServer,
) -> None:
    """What it writes without the new columns is the same candle, if that is a whole one."""
    url = installed_server.url_of(f"earlier_{free_port()}")
    async with earlier(url, "installed_server") as store:
        await store.prepare()
        before = await store.final_klines(*BTC)
        for statement in statements_of(store, "installed_server"):
            await run(store, statement)
        assert await store.final_klines(*BTC) == before


async def test_who_may_not_alter_is_told_what_to_run(tmp_path: Path) -> None:
    """The statements are complete: an operator who runs them is done."""
    with installed_clickhouse(tmp_path / "server") as server:
        async with earlier(server.url_of("market"), "installed_server") as operator:
            login = locate(server.url_of("market", user="no_ddl", password=PASSWORD))
            assert isinstance(login, ServerLocation)
            async with open_clickhouse(evolve(login)) as store:
                with pytest.raises(StoreMisconfigured, match="cannot alter") as raised:
                    await store.prepare()
                for statement in str(raised.value).split("run these statements: ")[1].split("; "):
                    await run(operator, statement)
                await store.insert(Batch("a", (sample(5),)))
                assert await store.final_kline(*sample(5).key) == sample(5)
                assert (await store.final_klines(*BTC))[1].open_time == MINUTE_MS + FIRST_OPEN


async def test_who_may_not_alter_on_a_modern_server_is_told_what_to_run(
    modern_server: ModernServer,
) -> None:
    """The refusal has a code of its own there; after the statements the same user can start."""
    name = f"earlier_{free_port()}"
    async with earlier(modern_server.url_of(name), "modern_server") as operator:
        before = await _all_rows(operator)
        async with open_store(modern_server.url_of(name, user="no_ddl")) as store:
            with pytest.raises(StoreMisconfigured, match=r"cannot alter them .*code 497") as raised:
                await store.prepare()
        for statement in str(raised.value).split("run these statements: ")[1].split("; "):
            await run(operator, statement)
        async with open_store(modern_server.url_of(name, user="no_ddl")) as store:
            await store.prepare()
            await store.insert(Batch("a", (sample(5),)))
            assert set(await _all_rows(store)) > set(before)


def test_a_view_that_another_agent_replaces_meanwhile_is_looked_at_again() -> None:
    """Old servers fail to list their tables while one of them is dropped."""
    tables = TABLES.items()
    whole = {table: dict.fromkeys(columns, "String") for table, columns in tables}
    found = {**whole, "klines_final": {}}
    steps = migration.bringing_forward("market", LEGACY, found, migration.SCHEMA_VERSION)
    assert "system.tables" in next(steps)
    assert "system.columns" in steps.throw(StoreMisconfigured("klines_final doesn't exist"))
    rows = [(table, name, type_) for table, each in whole.items() for name, type_ in each.items()]
    with pytest.raises(StopIteration) as ended:
        steps.send(rows)
    assert ended.value.value == whole
