from __future__ import annotations

import httpx2
import pytest
import trio
from click.testing import CliRunner

from klineagent.cli.group import commands
from klineagent.core.errors import ConfigError
from tests.processes import READY_WITHIN_S, running, running_twin


async def test_a_port_alone_is_this_machines() -> None:
    """Only an explicit host makes it reachable from other machines, as for the agent."""
    async with running_twin("--bind", "0") as (_, twin):
        assert str(twin["rest_url"]).startswith("http://127.0.0.1:")


async def test_each_venue_has_its_port_and_its_line() -> None:
    """Weight of both futures venues is one, and a fault may strike one venue alone."""
    options = ("--venues", "usdm,spot,coinm", "--symbols", "usdm=1,spot=3,coinm=2")
    fault = ("--fault", "spot:failing-rest")
    async with running("simulate", "--bind", "127.0.0.1:0", *options, *fault) as twin:
        with trio.fail_after(READY_WITHIN_S):
            told = [await twin.logged("exchange_twin", before=number) for number in range(3)]
        assert [each["venue"] for each in told] == ["usdm", "spot", "coinm"]
        assert "SOLUSDT" in str(told[1]["symbols"])
        assert "ETHUSDT" not in str(told[0]["symbols"])
        assert "BTCUSD_PERP" in str(told[2]["symbols"])
        usdm, spot, coinm = (str(each["rest_url"]) for each in told)
        async with httpx2.AsyncClient() as client:
            await client.get(f"{usdm}/fapi/v1/ping")
            second = await client.get(f"{coinm}/dapi/v1/ping")
            assert second.headers["x-mbx-used-weight-1m"] == "2"
            assert (await client.get(f"{spot}/api/v3/ping")).content != b"{}"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--venue", "spot", "--venues", "usdm"), "--venue cannot be used with --venues"),
        (("--venues", "usdm,options"), "--venues: expected some of usdm, coinm, spot"),
        (("--venues", ","), "--venues: expected some of"),
        (("--symbols", "none"), "--symbols: 'none' is not a valid integer"),
        (("--symbols", "0"), "--symbols: 0 is not in the range"),
        (("--symbols", "spot=3"), "--symbols: expected a number for each of usdm"),
        (("--venues", "usdm,spot", "--symbols", "spot=3"), "for each of usdm, spot"),
        (("--fault", "spot:offline=60"), "--fault: no venue 'spot' here; there are usdm"),
        (("--venues", "usdm,spot", "--bind", "65535"), "2 venues need 2 ports from 65535 on"),
        (("--bind", "nowhere:x"), "--bind:"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(options: tuple[str, ...], reason: str) -> None:
    """Nothing has been started by then."""
    with pytest.raises(ConfigError, match=reason) as refused:
        CliRunner().invoke(commands, ["simulate", *options], catch_exceptions=False)
    assert "\n" not in str(refused.value)


async def test_the_archive_of_all_venues_is_at_each_port() -> None:
    """From the day on that symbols were listed; faults of it are options as others."""
    options = ("--venues", "usdm,spot", "--symbols", "1", "--start", "2026-02-03T12:00:00")
    archive = ("--since", "2026-02-01", "--fault", "spot:archive-no-checksums")
    async with running("simulate", "--bind", "127.0.0.1:0", *options, *archive) as twin:
        with trio.fail_after(READY_WITHIN_S):
            url = str((await twin.logged("exchange_twin"))["archive_url"])
        async with httpx2.AsyncClient() as client:
            folder = "data/{}/daily/klines/BTCUSDT/1m/"
            keys = []
            for venue in ("futures/um", "spot"):
                query = {"delimiter": "/", "prefix": folder.format(venue)}
                text = (await client.get(url, params=query)).text
                keys += [part.split("<")[0] for part in text.split("<Key>")[1:]]
            assert [each.split("/")[-1].removeprefix("BTCUSDT-1m-") for each in keys] == [
                "2026-02-01.zip",
                "2026-02-01.zip.CHECKSUM",
                "2026-02-02.zip",
                "2026-02-02.zip.CHECKSUM",
                "2026-02-01.zip",
                "2026-02-02.zip",
            ]
            zipped = await client.get(f"{url}/{keys[0]}", headers={"range": "bytes=0-1"})
            assert (zipped.status_code, zipped.content) == (206, b"PK")
