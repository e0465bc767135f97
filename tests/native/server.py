"""ClickHouse's native TCP protocol with the modern engine behind it: test equipment.

    python -m tests.native.server --path DIRECTORY

prints its port in one line when it is ready and serves until its standard input ends, so that it
cannot outlive the tests that started it. Queries run in chdb, results and rows travel as
FORMAT Native, errors are the engine's. What it does not do: TLS, compression, query ids, external
tables, server logs and profile events, types that `blocks` cannot walk, and of clients older than
revision 54429 settings and VALUES inside of the query. Rows of an INSERT are stored only once the
client has sent their end.
"""

from __future__ import annotations

import argparse
import select
import socket
import socketserver
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from typing import Any, cast

from attrs import define, frozen

from tests.native import packets
from tests.native.blocks import END_OF_DATA, Block
from tests.native.engine import Engine, EngineError, Session
from tests.native.packets import Cancel, Data, Hello, Packet, Ping, Query
from tests.native.statements import DataInsert, data_insert
from tests.native.wire import WireError, WireReader

_AUTHENTICATION_FAILED = 516
_ACCESS_DENIED = 497
_DDL = ("ALTER ", "CREATE ", "DROP ", "RENAME ")
_SUPPORT_IS_DISABLED = 344
# How long a stop may go unnoticed: every test with a server of its own waits for it.
_STOP_POLL_S = 0.02


@frozen(kw_only=True)
class Options:
    """Whom the server lets in, and how it misbehaves."""

    user: str
    password: str
    user_without_ddl: str
    """Another one, with the same password, who may read and insert. The engine has no users."""
    progress_before_exception: bool
    """Send a Progress before an INSERT's exception; asynch 0.4.0 takes it for success."""


@define
class _Conversation:
    """One client, from its Hello until it leaves."""

    _engine: Engine
    _options: Options
    _socket: socket.socket
    _reader: WireReader
    _revision: int = packets.CLIENT_REVISION_MIN
    _user: str = ""

    def run(self) -> None:
        """Serve the client; a stream that cannot be read ends with an exception and the line."""
        try:
            self._greet()
        except (EOFError, ConnectionError):
            return
        except WireError as error:
            self._refuse(_SUPPORT_IS_DISABLED, str(error))

    def _greet(self) -> None:
        hello = packets.read_hello(self._reader)
        self._revision = hello.revision
        try:
            session = self._login(hello)
        except EngineError as error:
            self._send(packets.exception(error.code, str(error)))
            return
        try:
            version, timezone = self._engine.version, self._engine.timezone
            self._send(packets.hello(version, timezone, self._revision))
            while True:
                self._answer(session, self._next_packet())
        finally:
            session.close()

    def _login(self, hello: Hello) -> Session:
        users = {self._options.user, self._options.user_without_ddl}
        if hello.user not in users or hello.password != self._options.password:
            raise EngineError(
                _AUTHENTICATION_FAILED,
                f"DB::Exception: {hello.user}: Authentication failed: password is incorrect, "
                "or there is no user with such name.",
            )
        self._user = hello.user
        return self._engine.session(hello.database)

    def _answer(self, session: Session, packet: Packet) -> None:
        match packet:
            case Ping():
                self._send(packets.pong())
            case Query():
                self._answer_query(session, packet)
            case Cancel():
                pass  # it crossed the end of the result it meant
            case Data():
                raise WireError("a block that belongs to no query")

    def _answer_query(self, session: Session, query: Query) -> None:
        for _ in self._blocks():
            raise WireError("external tables")
        insert = data_insert(query.text)
        try:
            with session.settings(query.settings):
                if insert is None:
                    self._send_result(session, query.text)
                else:
                    self._take_rows(session, insert)
        except EngineError as error:
            if insert is not None and self._options.progress_before_exception:
                self._send(packets.progress(0, 0, self._revision))
            self._send(packets.exception(error.code, str(error)))
        else:
            self._send(packets.end_of_stream())

    def _send_result(self, session: Session, text: str) -> None:
        """Send the header, the blocks, what they were, and a block without columns."""
        if self._user == self._options.user_without_ddl and text.startswith(_DDL):
            raise EngineError(
                _ACCESS_DENIED, f"DB::Exception: {self._user}: Not enough privileges."
            )
        with closing(session.execute(text)) as blocks:
            header = next(blocks, None)
            if header is None:  # as after DDL: no result, not even an empty one
                return
            self._send(packets.data(header))
            rows = count = size = 0
            for block in blocks:
                self._send(packets.data(block))
                rows += block.rows
                count += 1
                size += len(block.native)
                if self._is_cancelled():
                    break
        self._send(packets.profile_info(rows, count, size))
        self._send(packets.progress(rows, size, self._revision))
        self._send(packets.data(END_OF_DATA))

    def _is_cancelled(self) -> bool:
        """A client whose result is on its way says nothing but that it wants no more."""
        readable, _, _ = select.select([self._socket], [], [], 0)
        return bool(readable) and isinstance(self._next_packet(), Cancel)

    def _take_rows(self, session: Session, insert: DataInsert) -> None:
        header = session.insert_header(insert)
        description = session.columns_description(insert.table)
        self._send(packets.table_columns(description, self._revision) + packets.data(header))
        session.insert(insert, self._blocks())

    def _blocks(self) -> Iterator[Block]:
        """Blocks the client sends, until the one without columns that ends them."""
        while True:
            match self._next_packet():
                case Data(block=block) if block.columns:
                    yield block
                case Data():
                    return
                case packet:
                    raise WireError(f"{type(packet).__name__} in the midst of data")

    def _next_packet(self) -> Packet:
        return packets.read_packet(self._reader, self._revision)

    def _refuse(self, code: int, message: str) -> None:
        with suppress(ConnectionError):  # it may be gone already
            self._send(packets.exception(code, f"DB::Exception: {message}"))

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data)


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """See `socketserver`."""
        server = cast("NativeServer", self.server)
        reader = WireReader(self.rfile)
        _Conversation(server.engine, server.options, self.connection, reader).run()


class NativeServer(socketserver.ThreadingTCPServer):
    """Listens on loopback; one thread and one engine session per client."""

    allow_reuse_address = True

    def __init__(self, port: int, engine: Engine, options: Options) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.engine = engine
        self.options = options
        self._clients: set[socket.socket] = set()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """See `socketserver`."""
        self._clients.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """See `socketserver`."""
        self._clients.discard(request)
        super().shutdown_request(request)

    def stop(self) -> None:
        """Hang up on everyone and wait for their threads."""
        self.shutdown()
        for client in self._clients.copy():
            with suppress(OSError):  # it may be leaving by itself
                client.shutdown(socket.SHUT_RDWR)
        self.server_close()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", type=Path, required=True, help="directory of the database")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user", default="default")
    parser.add_argument("--user-without-ddl", default="no_ddl")
    parser.add_argument("--password", default="")
    parser.add_argument("--create-database", metavar="NAME", action="append", default=[])
    parser.add_argument("--progress-before-exception", action="store_true")
    arguments = parser.parse_args()

    engine = Engine(arguments.path)
    for name in arguments.create_database:
        engine.create_database(name)
    options = Options(
        user=arguments.user,
        password=arguments.password,
        user_without_ddl=arguments.user_without_ddl,
        progress_before_exception=arguments.progress_before_exception,
    )
    server = NativeServer(arguments.port, engine, options)
    thread = Thread(target=server.serve_forever, args=(_STOP_POLL_S,), name="accept")
    thread.start()
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()
    thread.join()
    engine.close()


if __name__ == "__main__":
    main()
