from __future__ import annotations

from pathlib import Path

import pytest
from attrs import Attribute, fields_dict
from hypothesis import given
from hypothesis import strategies as st

from klineagent.config.loading import load_config, trace_config
from klineagent.config.model import Config, as_written
from klineagent.config.sources import OLD_VARIABLES
from klineagent.core.address import Bind
from klineagent.core.errors import ConfigError
from klineagent.core.interval import Interval
from klineagent.exchange.venues import COINM, SPOT, USDM
from klineagent.process.logs import LogFormat, LogLevel


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its file."""
    return tmp_path / "agent.conf"


def test_defaults() -> None:
    """Without any source the contract's defaults hold."""
    config = load_config({}, {}, None)
    assert config == Config()
    assert [str(each) for each in config.intervals] == ["1m", "5m", "15m", "1h", "4h", "1d", "1w"]
    assert (config.symbols, config.max_symbols, config.self_update_interval_s) == ((), 100, 60)
    assert (config.command_bind.port, config.status_bind.port) == (9999, 9988)
    assert config.ws_url_of(config.venue) == USDM.ws_url
    assert config.rest_url_of(config.venue) == USDM.rest_url
    assert config.fleet_manager is None
    assert (config.history, config.lookback_s, config.grace_s) == (500, 86_400, 5)
    assert (config.updates, config.spool, config.spool_limit) == (False, None, 4 * 1024**3)


def test_later_sources_win(file: Path) -> None:
    """Options beat the environment, which beats the file, which beats the defaults."""
    file.write_text("[klineagent]\nmax_symbols = 1\nflush_rows = 1\nbuffer_rows = 9\n")
    environ = {"KLINEAGENT_MAX_SYMBOLS": "2", "KLINEAGENT_FLUSH_ROWS": "2"}
    config = load_config({"max_symbols": 3, "venue": None}, environ, file)
    assert (config.max_symbols, config.flush_rows, config.buffer_rows) == (3, 2, 9)


def test_old_variables() -> None:
    """Variables of the old agent configure this one."""
    config = load_config(
        {},
        {
            "DATA_AGENT_PORT": "7999",
            "DATA_AGENT_STATUS_PORT": "7988",
            "DATA_AGENT_MAX_SYMBOL": "20",
            "DATA_AGENT_REGISTER_IP": "203.0.113.1",
            "DATA_AGENT_REGISTER_PORT": "8000",
            "DATA_AGENT_IP": "203.0.113.7",
            "DATA_AGENT_KLINE_INTERVALS": "1m, 1M",
            "DATA_AGENT_SELF_UPDATE_INTERVAL": "30",
            "STREAM_URL": "wss://example.org/ws/",
        },
        None,
    )
    assert (config.command_bind, config.status_bind) == (
        Bind("127.0.0.1", 7999),
        Bind("0.0.0.0", 7988),
    )
    assert config.fleet_manager == Bind("203.0.113.1", 8000)
    assert (config.max_symbols, config.agent_ip) == (20, "203.0.113.7")
    assert config.intervals == (Interval.M1, Interval.MO1)
    assert config.self_update_interval_s == 30
    assert config.ws_url_of(config.venue) == "wss://example.org"


def test_old_variables_are_of_fields() -> None:
    """Every old variable names a field there is."""
    assert OLD_VARIABLES.keys() <= fields_dict(Config).keys()


def test_new_variables_beat_old_ones() -> None:
    """Where both names are set, the old one is not even read."""
    environ = {"KLINEAGENT_MAX_SYMBOLS": "7", "DATA_AGENT_MAX_SYMBOL": "many"}
    assert load_config({}, environ, None).max_symbols == 7


def test_an_empty_variable_is_no_variable() -> None:
    """Variables that are set to nothing leave the field to the next source."""
    environ = {"KLINEAGENT_MAX_SYMBOLS": " ", "DATA_AGENT_MAX_SYMBOL": "7", "KLINEAGENT_WS_URL": ""}
    config = load_config({}, environ, None)
    assert (config.max_symbols, config.ws_url) == (7, None)


def test_every_field_has_a_variable_and_a_key(file: Path) -> None:
    """Each field is read from the environment and from the file, under its own name."""
    values = {
        "symbols": "btcusdt, ETHUSDT,,BTCUSDT",
        "intervals": "1s,1m",
        "venue": " Spot ",
        "ws_url": "ws://127.0.0.1:9443/",
        "rest_url": "http://127.0.0.1:8080/",
        "archive_url": "/mnt/mirror",
        "store": "memory:",
        "ca_file": "ca.pem",
        "command_bind": "[::1]:0",
        "command_tls_cert": "cert.pem",
        "command_tls_key": "key.pem",
        "token": "0123456789abcdef",
        "allow_anonymous": "no",
        "status_bind": "localhost:9",
        "read_bind": "9966",
        "read_token": "fedcba9876543210",
        "forward": "yes",
        "max_symbols": "5",
        "register_ip": "manager.example",
        "register_port": "8000",
        "agent_ip": "::1",
        "self_update_interval_s": "0.5",
        "log_format": "json",
        "log_level": "debug",
        "flush_interval_s": "2",
        "flush_rows": "10",
        "buffer_rows": "20",
        "history": "0",
        "lookback_s": "2h",
        "grace_s": "2.5",
        "updates": "yes",
        "spool": " /var/spool/klines ",
        "spool_limit": "500M",
        "state": "/var/lib/klines.json",
        "drain_timeout_s": "1.5",
    }
    # Of two places for a token, one can be used.
    assert values.keys() | {"token_file", "read_token_file"} == fields_dict(Config).keys()
    file.write_text("[klineagent]\n" + "".join(f'{k} = "{v}"\n' for k, v in values.items()))
    config = load_config({}, {}, file)
    environ = {f"KLINEAGENT_{name.upper()}": value for name, value in values.items()}
    assert load_config({}, environ, None) == config
    assert config == Config(
        symbols=("BTCUSDT", "ETHUSDT"),
        intervals=(Interval.S1, Interval.M1),
        venue=SPOT,
        ws_url="ws://127.0.0.1:9443",
        rest_url="http://127.0.0.1:8080",
        archive_url="/mnt/mirror",
        store="memory:",
        ca_file="ca.pem",
        command_bind=Bind("::1", 0),
        command_tls_cert="cert.pem",
        command_tls_key="key.pem",
        token="0123456789abcdef",
        allow_anonymous=False,
        status_bind=Bind("localhost", 9),
        read_bind=Bind("127.0.0.1", 9966),
        read_token="fedcba9876543210",
        forward=True,
        max_symbols=5,
        register_ip="manager.example",
        register_port=8000,
        agent_ip="::1",
        self_update_interval_s=0.5,
        log_format=LogFormat.JSON,
        log_level=LogLevel.DEBUG,
        flush_interval_s=2,
        flush_rows=10,
        buffer_rows=20,
        history=0,
        lookback_s=7200,
        grace_s=2.5,
        updates=True,
        spool="/var/spool/klines",
        spool_limit=500 * 1024**2,
        state="/var/lib/klines.json",
        drain_timeout_s=1.5,
    )


def test_a_file_with_toml_types(file: Path) -> None:
    """Lists and numbers of a file need no quotes."""
    file.write_text('[klineagent]\nsymbols=["a"]\nintervals=["1m"]\ncommand_bind=7\nflush_rows=9\n')
    config = load_config({}, {}, file)
    assert (config.symbols, config.intervals) == (("A",), (Interval.M1,))
    assert (config.command_bind.port, config.flush_rows) == (7, 9)


def test_symbols_of_a_file_stand_in_quotes(file: Path) -> None:
    """A number would be a symbol that no exchange has."""
    file.write_text("[klineagent]\nsymbols = [1, 2]\n")
    with pytest.raises(ConfigError, match=r"symbols: expected names in quotes, got 1$"):
        load_config({}, {}, file)


@pytest.mark.parametrize(
    ("url", "effective"),
    [
        ("wss://fstream.binance.com", USDM.ws_url),
        ("wss://fstream.binance.com/ws", USDM.ws_url),
        ("wss://fstream.binance.com/market/stream", USDM.ws_url),
        ("ws://127.0.0.1:9443", "ws://127.0.0.1:9443"),
    ],
)
def test_the_stream_address_is_a_prefix(url: str, effective: str) -> None:
    """Whole addresses and the venue's bare host lead to where the streams really are."""
    assert load_config({"ws_url": url}, {}, None).ws_url_of(USDM) == effective


def test_the_venue_brings_its_addresses() -> None:
    """Another venue is at other addresses."""
    config = load_config({"venue": "coinm"}, {}, None)
    assert (config.ws_url_of(config.venue), config.rest_url_of(config.venue)) == (
        COINM.ws_url,
        COINM.rest_url,
    )


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("intervals", "7m", "1m, 3m"),
        ("intervals", "", "at least one interval"),
        ("intervals", 5, "a list"),
        ("intervals", [1], "names in quotes, got 1"),
        ("intervals", "1m\r1h", r"names of one line, got '1m\r1h'"),
        ("venue", "nasdaq", "usdm, coinm, spot"),
        ("ws_url", "http://example.org", "wss://HOST"),
        ("ws_url", "wss://", "wss://HOST"),
        ("ws_url", "wss://host:port", "wss://HOST"),
        ("rest_url", "wss://example.org", "https://HOST"),
        ("rest_url", "https://a b", "https://HOST"),
        ("store", "mysql://x", "clickhouse"),
        ("command_bind", "localhost", "HOST:PORT"),
        ("command_bind", "::1:9999", "HOST:PORT"),
        ("command_bind", "a b:1", "a host name"),
        ("status_bind", "x:70000", "65535"),
        ("max_symbols", "many", "a whole number"),
        ("max_symbols", 1.5, "a whole number"),
        ("max_symbols", True, "a whole number"),
        ("max_symbols", 0, "at least 1"),
        ("register_ip", "http://x", "a host name"),
        ("register_port", 0, "from 1 to 65535"),
        ("self_update_interval_s", "soon", "seconds"),
        ("flush_interval_s", 0, "more than 0"),
        ("drain_timeout_s", "nan", "more than 0"),
        ("history", -1, "0 or more"),
        ("lookback_s", "1w", "seconds, or a number followed by s, m, h or d, got '1w'"),
        ("lookback_s", "d", "s, m, h or d"),
        ("lookback_s", "0d", "more than 0"),
        ("lookback_s", "-1d", "more than 0 seconds, got '-1d'"),
        ("lookback_s", "1e308d", "more than 0"),
        ("lookback_s", "1000000000d", "at most 7300 days, got '1000000000d'"),
        ("grace_s", "soon", "seconds"),
        ("grace_s", "601", "at most 600 seconds"),
        ("updates", "perhaps", "true or false"),
        ("spool", " ", "text"),
        ("spool_limit", "4Q", "bytes, or a whole number followed by K, M, G or T, got '4Q'"),
        ("spool_limit", "0G", "at least 1"),
        ("spool_limit", "-4G", "at least 1, got '-4G'"),
        ("spool_limit", "B", "K, M, G or T"),
        ("log_format", "xml", "console, json"),
    ],
)
def test_a_value_that_cannot_be_used(name: str, value: object, right: str) -> None:
    """One line names the option and says what is expected."""
    with pytest.raises(ConfigError) as caught:
        load_config({name: value}, {}, None)
    message = str(caught.value)
    assert message.startswith(f"--{name.replace('_', '-')}: ")
    assert right in message
    assert "\n" not in message


def test_errors_name_the_source(file: Path) -> None:
    """The error for a bad value has the name it was given by."""
    file.write_text('[klineagent]\nmax_symbols = "x"\n')
    for environ, path, name in [
        ({"KLINEAGENT_MAX_SYMBOLS": "x"}, None, "KLINEAGENT_MAX_SYMBOLS: "),
        ({"DATA_AGENT_MAX_SYMBOL": "x"}, None, "DATA_AGENT_MAX_SYMBOL: "),
        ({}, file, f"{file}: max_symbols: "),
    ]:
        with pytest.raises(ConfigError) as caught:
            load_config({}, environ, path)
        assert str(caught.value).startswith(name)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[klineagent]\n[klineagent.venue]\nname = 3\n", "venue"),
        ("[klineagent]\n[klineagent.venu]\n", r"did you mean venue\?"),
        ("max_symbols = 3\n", r"no \[klineagent\] table"),
        ("klineagent = 3\n", r"no \[klineagent\] table"),
        ("[klineagent\n", "is not TOML"),
        ("\xff", "is not TOML"),
    ],
)
def test_files_that_cannot_be_used(file: Path, text: str, complaint: str) -> None:
    """A file is refused for what is wrong with it, and named."""
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_config({}, {}, file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("maxsymbols = 3", "maxsymbols is not a setting; did you mean max_symbols?"),
        ("lookback = '2h'", "lookback is not a setting; did you mean lookback_s?"),
        ("colour = 3", "colour is not a setting; `klineagent config show` lists all."),
        (
            "colour = 3\nvenu = 3",
            (
                "colour is not a setting; `klineagent config show` lists all."
                " venu is not a setting; did you mean venue?"
            ),
        ),
    ],
)
def test_keys_that_are_no_settings(file: Path, keys: str, message: str) -> None:
    """The error suggests the most similar key, if one is similar."""
    file.write_text(f"[klineagent]\n{keys}\n")
    with pytest.raises(ConfigError) as caught:
        load_config({}, {}, file)
    assert str(caught.value) == f"{file}: {message}"


def test_keys_may_be_written_as_options_are(file: Path) -> None:
    """With `-` for `_`."""
    file.write_text("[klineagent]\nmax-symbols = 3\n")
    assert load_config({}, {}, file).max_symbols == 3


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and a folder are refused by name."""
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            load_config({}, {}, path)
        assert str(path) in str(caught.value)


def test_intervals_must_exist_on_the_venue(file: Path) -> None:
    """Only spot has one-second klines; the error lists the intervals of the venue that wins."""
    with pytest.raises(ConfigError, match="--intervals: there is no 1s on usdm; use some of 1m"):
        load_config({"intervals": "1s,1m"}, {}, None)
    assert load_config({"intervals": "1s", "venue": "spot"}, {}, None).intervals == (Interval.S1,)
    file.write_text('[klineagent]\nintervals = ["7m"]\n')
    with pytest.raises(ConfigError, match="intervals: there is no 7m on spot; use some of 1s, 1m"):
        load_config({}, {"KLINEAGENT_VENUE": "spot"}, file)


def test_intervals_are_judged_by_the_venue_they_are_used_with(file: Path) -> None:
    """Those that others override were meant for another; they only must be intervals."""
    file.write_text('[klineagent]\nvenue = "spot"\nintervals = ["1s", "1m"]\n')
    config = load_config({"venue": "usdm", "intervals": "1m"}, {}, file)
    assert (config.venue, config.intervals) == (USDM, (Interval.M1,))
    with pytest.raises(ConfigError, match="intervals: there is no 1s on coinm; use some of 1m"):
        load_config({"venue": "coinm"}, {}, file)
    with pytest.raises(ConfigError, match="KLINEAGENT_INTERVALS: there is no 7m; use some of 1s"):
        load_config({"intervals": "1m"}, {"KLINEAGENT_INTERVALS": "7m"}, file)


def test_a_manager_needs_an_address_and_a_port() -> None:
    """One is useless without the other."""
    with pytest.raises(ConfigError, match="register_ip needs register_port"):
        load_config({"register_ip": "203.0.113.1"}, {}, None)
    with pytest.raises(ConfigError, match="register_port needs register_ip"):
        load_config({"register_port": 8000}, {}, None)


@pytest.mark.parametrize("environ", [{}, {"DATA_AGENT_REGISTER_IP": ""}])
def test_the_old_port_alone_means_no_manager(environ: dict[str, str], file: Path) -> None:
    """As for the old agent; with the new name as well, it is an error."""
    environ = {**environ, "DATA_AGENT_REGISTER_PORT": "8000"}
    assert load_config({}, environ, None).fleet_manager is None
    file.write_text("[klineagent]\nregister_port = 8000\n")
    with pytest.raises(ConfigError, match="register_port needs register_ip"):
        load_config({"register_port": 8000}, environ, None)
    with pytest.raises(ConfigError, match="register_port needs register_ip"):
        load_config({}, {**environ, "KLINEAGENT_REGISTER_PORT": "8000"}, None)
    with pytest.raises(ConfigError, match="register_port needs register_ip"):
        load_config({}, {}, file)


def test_more_symbols_than_are_accepted() -> None:
    """It is found before anything is opened."""
    with pytest.raises(ConfigError, match="symbols: 2 exceed max_symbols, which is"):
        load_config({"symbols": "a,b", "max_symbols": 1}, {}, None)


@pytest.mark.parametrize(
    ("command", "status", "is_usable"),
    [
        ("127.0.0.1:7", "7", False),
        ("localhost:7", "localhost:7", False),
        ("127.0.0.1:7", "127.0.0.2:7", True),
        ("[::1]:7", "7", True),
        ("0", "0", True),
    ],
)
def test_servers_at_one_address_need_two_ports(command: str, status: str, is_usable: bool) -> None:
    """A port alone of the status server is every interface's, as far as IPv4 goes."""
    binds = {"command_bind": command, "status_bind": status}
    if is_usable:
        load_config(binds, {}, None)
        return
    with pytest.raises(ConfigError, match="both have port 7"):
        load_config(binds, {}, None)


def test_a_token_is_in_one_place() -> None:
    """It would be ambiguous."""
    environ = {"KLINEAGENT_TOKEN": "0123456789abcdef"}
    with pytest.raises(ConfigError, match="only one"):
        load_config({"token_file": "token"}, environ, None)


def test_a_port_alone_is_where_it_is_safe() -> None:
    """Commands default to loopback, health to all interfaces."""
    config = load_config({"command_bind": "7", "status_bind": "8"}, {}, None)
    assert config.command_bind == Bind("127.0.0.1", 7)
    assert config.status_bind == Bind("0.0.0.0", 8)


def test_passwords_stay_secret() -> None:
    """Neither the configuration nor an error about it shows the store's password."""
    assert "secret" not in repr(Config(store="clickhouse://me:secret@host/db"))
    urls = Config(ws_url="wss://me:secret@a,spot=wss://b:1,coinm=wss://me:secret@c")
    assert "'wss://me:***@a,spot=wss://b:1,coinm=wss://me:***@c'" in repr(urls)
    with pytest.raises(ConfigError) as caught:
        load_config({"store": "clickhouse://me:secret@host:port/db"}, {}, None)
    assert "secret" not in str(caught.value)


@given(
    host=st.ip_addresses().map(str) | st.just("localhost"),
    port=st.integers(min_value=0, max_value=65_535),
)
def test_binds_survive_a_round_trip(host: str, port: int) -> None:
    """What a bind prints is what it is read from."""
    bind = Bind(host, port)
    binds = {"command_bind": str(bind), "status_bind": 0}
    assert load_config(binds, {}, None).command_bind == bind


@pytest.mark.slow
@given(name=st.sampled_from(sorted(fields_dict(Config))), value=st.text(max_size=20))
def test_garbage_is_refused_in_one_line(name: str, value: str) -> None:
    """Any text makes a configuration or one ConfigError."""
    try:
        load_config({name: value}, {}, None)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    "host",
    [
        *("203.0.113.7", "::1", "fe80::1%br-lan", "::ffff:203.0.113.7"),
        *("agent", "agent_7.local", "3com.example", "agent-1.example.", "bücher.example"),
    ],
)
def test_a_host_is_an_address_or_a_name(host: str) -> None:
    """A single word is a name, too: containers have such."""
    config = load_config({"agent_ip": host, "register_ip": host, "register_port": 1}, {}, None)
    assert (config.agent_ip, config.register_ip) == (host, host)


@pytest.mark.parametrize(
    "host",
    [
        *("203.0.113", "203.0.113.256", "203.0.113.7.", ":::", "::1%a b", "7"),
        *("a..b", ".", "-", "a-.example", "a b", "a/b", f"{'a' * 64}.example", "a." * 127),
    ],
)
def test_what_is_neither_an_address_nor_a_name_is_no_host(host: str) -> None:
    """A fleet manager could not reach it; what ends in a number is a broken address."""
    with pytest.raises(ConfigError, match="--agent-ip: expected a host name or an IP address"):
        load_config({"agent_ip": host}, {}, None)


@pytest.mark.parametrize("url", ["ws://a..b", f"ws://{'a' * 70}.test"])
def test_a_host_no_resolver_takes_is_refused(url: str) -> None:
    """It would fail at every dial, with an error of another kind than an outage."""
    with pytest.raises(ConfigError, match="--ws-url"):
        load_config({"ws_url": url}, {}, None)


def test_a_buffer_smaller_than_a_batch_is_refused() -> None:
    """It would drop rows even while the database works."""
    with pytest.raises(
        ConfigError, match="buffer_rows: 100 is less than flush_rows, which is 5000"
    ):
        load_config({"buffer_rows": "100"}, {}, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("1d", 86_400), ("3600", 3600), ("2h", 7200), ("1.5m", 90), (" 30s ", 30), (45, 45)),
        ("7300d", 630_720_000),
    ],
)
def test_a_duration_may_have_a_unit(text: object, seconds: float) -> None:
    """Without one it is seconds."""
    assert load_config({"lookback_s": text}, {}, None).lookback_s == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("4G", 4 * 1024**3), ("4 gb", 4 * 1024**3), ("1K", 1024), ("2T", 2 * 1024**4), (4096, 4096)],
)
def test_a_size_may_have_a_unit(text: object, size: int) -> None:
    """Without one it is bytes; case and a B do not matter."""
    assert load_config({"spool_limit": text}, {}, None).spool_limit == size


@pytest.mark.parametrize(
    ("value", "answer"), [(True, True), ("Yes", True), ("1", True), (False, False), ("no", False)]
)
def test_updates_are_wanted_or_not(value: object, answer: bool) -> None:
    """As a flag, in a file, or in the environment."""
    assert load_config({"updates": value}, {}, None).updates is answer


def test_the_spool_is_where_it_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of its own, or nowhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for written, folder in [
        ("none", None),
        ("/var/spool/klines", Path("/var/spool/klines")),
        ("klines", tmp_path / "klines"),
        ("~/klines", Path("/home/me/klines")),
    ]:
        assert load_config({"spool": written}, {}, None).spool_folder == folder
        assert load_config({"state": written}, {}, None).state_file == folder


def test_the_state_is_beside_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file for each database and venue, where the spool has a folder."""
    monkeypatch.chdir(tmp_path)
    for store, file in [
        ("memory:", None),
        ("chdb:///srv/my.data", Path("/srv/my.data-state-usdm.json")),
        (
            "clickhouse://me:secret@db.example",
            tmp_path / "klineagent-state" / "usdm-db.example-9000-market.json",
        ),
    ]:
        assert load_config({"store": store}, {}, None).state_file == file


def test_symbols_may_name_their_venue() -> None:
    """A bare one, and one that names the default venue, are the same."""
    config = load_config(
        {"symbols": "btcusdt, SPOT:ethusdt,usdm:BTCUSDT,coinm:btcusd_perp"}, {}, None
    )
    assert config.symbols == ("BTCUSDT", "spot:ETHUSDT", "usdm:BTCUSDT", "coinm:BTCUSD_PERP")
    assert config.symbols_by_venue == {
        USDM: ("BTCUSDT",),
        SPOT: ("ETHUSDT",),
        COINM: ("BTCUSD_PERP",),
    }
    with pytest.raises(ConfigError, match="'moon' is no venue; use one of usdm, coinm, spot"):
        load_config({"symbols": "moon:BTCUSDT"}, {}, None)


def test_intervals_of_any_venue_that_records_can_be_named() -> None:
    """A venue that has none of them is an error, as is an interval that no venue has."""
    given = {"symbols": "BTCUSDT,spot:BTCUSDT", "intervals": "1s,1m"}
    assert load_config(given, {}, None).intervals == (Interval.S1, Interval.M1)
    with pytest.raises(ConfigError, match="usdm has none of 1s"):
        load_config({**given, "intervals": "1s"}, {}, None)
    with pytest.raises(ConfigError, match="there is no 7m on usdm or spot"):
        load_config({**given, "intervals": "7m"}, {}, None)


def test_urls_may_be_given_by_venue(tmp_path: Path) -> None:
    """Bare ones are of the default venue; a file may have a table."""
    for value in (
        "ws://a/market,spot=ws://b:1",
        ("ws://a/market", "spot=ws://b:1"),
        {"usdm": "ws://a/market", "spot": "ws://b:1"},
    ):
        config = Config(ws_url=value, symbols="spot:BTCUSDT")
        assert config.ws_url_of(USDM) == "ws://a/market"
        assert config.ws_url_of(SPOT) == "ws://b:1"
        assert config.ws_url_of(COINM) == COINM.ws_url
    for value, reason in [
        ("moon=ws://a", "'moon' is no venue; use one of usdm, coinm, spot"),
        ("spot=http://a", "expected one of ws://HOST"),
        ("ws://a,ws://b", "the default venue has two URLs"),
        ("ws://a,usdm=ws://b", "usdm has two URLs"),
    ]:
        with pytest.raises(ConfigError, match=f"--ws-url: {reason}"):
            load_config({"ws_url": value}, {}, None)
    file = tmp_path / "klineagent.toml"
    file.write_text('[klineagent]\nrest_url = {spot = "http://b:1"}\n')
    assert load_config({}, {}, file).rest_url_of(SPOT) == "http://b:1"


def test_a_later_source_keeps_the_urls_of_venues_that_it_does_not_name(tmp_path: Path) -> None:
    """A bare URL and one of the default venue's name are of the same venue."""
    file, environ = tmp_path / "klineagent.toml", {"KLINEAGENT_WS_URL": "ws://b"}
    file.write_text('[klineagent]\nws_url = {usdm = "ws://a", coinm = "ws://a"}\n')
    config, sources = trace_config({"ws_url": ("spot=ws://c",)}, environ, file)
    assert [config.ws_url_of(each) for each in (USDM, COINM, SPOT)] == [
        "ws://b",
        "ws://a",
        "ws://c",
    ]
    assert sources["ws_url"] == f"KLINEAGENT_WS_URL, {file}: ws_url, --ws-url"
    config = load_config({"ws_url": "usdm=ws://c"}, environ, file)
    assert [config.ws_url_of(each) for each in (USDM, COINM)] == ["ws://c", "ws://a"]
    config = load_config({"venue": "coinm"}, environ, file)
    assert [config.ws_url_of(each) for each in (USDM, COINM)] == ["ws://a", "ws://b"]


def test_equal_configurations_have_equal_hashes() -> None:
    """With URLs by venue, too."""
    one, same, other = (Config(ws_url=f"ws://a,spot=ws://{host}") for host in "bbc")
    assert (one == same, hash(one) == hash(same), one == other) == (True, True, False)


def test_the_files_of_agents_for_one_venue_each_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of venues that are named; not where the user has named files."""
    monkeypatch.chdir(tmp_path)
    given = {"store": "chdb:data", "symbols": "BTCUSDT,spot:BTCUSDT"}
    config = load_config(given, {}, None)
    assert config.earlier_spools == [tmp_path / "data-spool-spot"]
    assert config.earlier_states == {SPOT: tmp_path / "data-state-spot.json"}
    named = load_config({**given, "spool": "here", "state": "there"}, {}, None)
    assert (named.earlier_spools, named.earlier_states) == ([], {})


def test_every_database_and_venue_has_a_spool_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two agents on one machine need two spools."""
    monkeypatch.chdir(tmp_path)

    def folder(store: str, venue: str) -> Path | None:
        return load_config({"store": store, "venue": venue}, {}, None).spool_folder

    assert folder("memory:", "usdm") is None
    assert folder("chdb:data", "usdm") == tmp_path / "data-spool-usdm"
    assert folder("chdb:///srv/data", "spot") == Path("/srv/data-spool-spot")
    server = "clickhouse://me:secret@db.example"
    folders = [
        folder(server + rest, venue)
        for rest in ("", ":9001", "/other", "/..%2Fetc")
        for venue in ("usdm", "coinm", "spot")
    ]
    assert folders[0] == tmp_path / "klineagent-spool" / "usdm-db.example-9000-market"
    assert len(set(folders)) == len(folders)
    assert {each and each.parent for each in folders} == {tmp_path / "klineagent-spool"}
    assert "secret" not in str(folders)


@pytest.mark.parametrize(
    "field", [f for f in fields_dict(Config).values() if f.default is not None]
)
def test_defaults_are_told_as_they_may_be_given(field: Attribute[object]) -> None:
    """Defaults shown by `--help` can be typed."""
    assert field.converter is not None
    config = load_config({field.name: as_written(field.default)}, {}, None)
    assert getattr(config, field.name) == getattr(Config(), field.name)
