"""The packets of the native protocol: the client's are read, the server's are written. Pure.

The layout follows the format's own description and what clickhouse-driver speaks. Which fields a
packet has depends on the revision both sides know, the smaller of the two they advertise.
"""

from __future__ import annotations

from attrs import frozen

from tests.native.blocks import Block, read_block
from tests.native.wire import WireError, WireReader, int32, string, varint

# From 54454 on, each column on the wire carries a flag that FORMAT Native does not have.
SERVER_REVISION = 54453
# Older clients send no client info, and no block info in the oldest dialects.
CLIENT_REVISION_MIN = 54032

_WITH_TIMEZONE = 54058
_WITH_QUOTA_KEY = 54060
_WITH_DISPLAY_NAME = 54372
_WITH_PATCH = 54401
_WITH_TABLE_COLUMNS = 54410
_WITH_WRITE_PROGRESS = 54420
_WITH_SETTINGS_AS_STRINGS = 54429
_WITH_INTERSERVER_SECRET = 54441
_WITH_OPENTELEMETRY = 54442
_WITH_DISTRIBUTED_DEPTH = 54448
_WITH_QUERY_START_TIME = 54449
_WITH_PARALLEL_REPLICAS = 54453

_OPENTELEMETRY_IDS_BYTES = 16 + 8
_TCP = 1
_IMPORTANT = 1


@frozen(kw_only=True)
class Hello:
    """The first packet of a client."""

    client: str
    revision: int
    """The smaller of the client's and ours."""
    database: str
    user: str
    password: str


@frozen
class Setting:
    """A setting of one query; an unknown one is an error only where it is important."""

    name: str
    value: str
    important: bool


@frozen
class Query:
    """A query; of an INSERT with data only the head, the rows follow as `Data`."""

    query_id: str
    settings: tuple[Setting, ...]
    text: str


@frozen
class Data:
    """A block, of an external table where `table` names one."""

    table: str
    block: Block


@frozen
class Cancel:
    """The client wants no more of the running query's result."""


@frozen
class Ping:
    """The client wants to know whether anyone is there."""


Packet = Query | Data | Cancel | Ping


def read_hello(reader: WireReader) -> Hello:
    """Read the packet every connection begins with.

    Raises:
        WireError: it is another packet, or the client's dialect is too old.
    """
    kind = reader.varint()
    if kind != 0:
        raise WireError(f"packet {kind} instead of a Hello")
    client = reader.string()
    _major, _minor, revision = reader.varints(3)
    database, user, password = reader.strings(3)
    if revision < CLIENT_REVISION_MIN:
        raise WireError(f"client revision {revision} is older than {CLIENT_REVISION_MIN}")
    return Hello(
        client=client,
        revision=min(revision, SERVER_REVISION),
        database=database,
        user=user,
        password=password,
    )


def read_packet(reader: WireReader, revision: int) -> Packet:
    """Read one packet after the Hello.

    Raises:
        WireError: it asks for something this server does not do.
    """
    match reader.varint():
        case 1:
            return _read_query(reader, revision)
        case 2:
            table = reader.string()
            _skip_block_info(reader)
            return Data(table, read_block(reader))
        case 3:
            return Cancel()
        case 4:
            return Ping()
        case kind:
            raise WireError(f"unknown packet {kind}")


def _read_query(reader: WireReader, revision: int) -> Query:
    query_id = reader.string()
    _skip_client_info(reader, revision)
    settings = tuple(_read_settings(reader, revision))
    if revision >= _WITH_INTERSERVER_SECRET:
        reader.string()
    _stage, compressed = reader.varints(2)
    text = reader.string()
    if compressed:
        raise WireError("this server does not speak compressed blocks; turn compression off")
    return Query(query_id, settings, text)


def _skip_client_info(reader: WireReader, revision: int) -> None:
    if not reader.uint8():  # no kind of query: nothing else follows
        return
    reader.strings(3)  # initial user, query id, address
    if revision >= _WITH_QUERY_START_TIME:
        reader.uint64()
    if reader.uint8() != _TCP:
        raise WireError("a query that came to the client by another way than TCP")
    reader.strings(3)  # operating system's user, host, client's name
    reader.varints(3)  # client's version and revision
    if revision >= _WITH_QUOTA_KEY:
        reader.string()
    if revision >= _WITH_DISTRIBUTED_DEPTH:
        reader.varint()
    if revision >= _WITH_PATCH:
        reader.varint()
    if revision >= _WITH_OPENTELEMETRY and reader.uint8():
        reader.take(_OPENTELEMETRY_IDS_BYTES)
        reader.string()
        reader.uint8()
    if revision >= _WITH_PARALLEL_REPLICAS:
        reader.varints(3)


def _read_settings(reader: WireReader, revision: int) -> list[Setting]:
    settings = []
    while name := reader.string():
        if revision < _WITH_SETTINGS_AS_STRINGS:
            raise WireError(f"setting {name} in the binary form, whose type only its name tells")
        flags = reader.varint()
        settings.append(Setting(name, reader.string(), bool(flags & _IMPORTANT)))
    return settings


def _skip_block_info(reader: WireReader) -> None:
    """Skip the pairs of field number and value; only merges between servers use them."""
    while field := reader.varint():
        if field not in _BLOCK_INFO_WIDTHS:
            raise WireError(f"unknown field {field} of a block")
        reader.take(_BLOCK_INFO_WIDTHS[field])


_BLOCK_INFO_WIDTHS = {1: 1, 2: 4}  # is it an overflow block; its bucket
_BLOCK_INFO = varint(1) + b"\0" + varint(2) + int32(-1) + varint(0)


def hello(version: tuple[int, int, int], timezone: str, revision: int) -> bytes:
    """Answer a Hello; `revision` is what was agreed on."""
    major, minor, patch = version
    packet = varint(0) + string("ClickHouse")
    packet += varint(major) + varint(minor) + varint(SERVER_REVISION)
    if revision >= _WITH_TIMEZONE:
        packet += string(timezone)
    if revision >= _WITH_DISPLAY_NAME:
        packet += string("chdb behind tests.native")
    if revision >= _WITH_PATCH:
        packet += varint(patch)
    return packet


def data(block: Block) -> bytes:
    """A block of a result, or the sample block of an INSERT."""
    return varint(1) + string("") + _BLOCK_INFO + block.native


def exception(code: int, message: str) -> bytes:
    """The end of a query that failed."""
    return varint(2) + int32(code) + string("DB::Exception") + string(message) + string("") + b"\0"


def progress(rows: int, size: int, revision: int) -> bytes:
    """Rows and bytes since the last progress; the totals are not known."""
    packet = varint(3) + varint(rows) + varint(size) + varint(0)
    if revision >= _WITH_WRITE_PROGRESS:
        packet += varint(0) + varint(0)
    return packet


def pong() -> bytes:
    """Answer a ping."""
    return varint(4)


def end_of_stream() -> bytes:
    """The end of a query that went well."""
    return varint(5)


def profile_info(rows: int, blocks: int, size: int) -> bytes:
    """What a result was made of; rows before a LIMIT are not known."""
    # Calculated, but no limit applied. Told that nothing was calculated, the client of 18.16
    # calculates by itself, from streams it does not have, and crashes.
    limit = b"\0" + varint(0) + b"\1"
    return varint(6) + varint(rows) + varint(blocks) + varint(size) + limit


def table_columns(description: str, revision: int) -> bytes:
    """The columns and defaults of an INSERT's table, for clients old or new enough to ask."""
    if revision < _WITH_TABLE_COLUMNS:
        return b""
    return varint(11) + string("") + string(description)
