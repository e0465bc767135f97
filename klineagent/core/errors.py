"""Every error klineagent raises on purpose.

    KlineagentError
    +-- ConfigError             an option, environment variable or file cannot be used
    +-- StartError              a step of the start failed
    +-- RequestError            a command cannot be carried out; carries its HTTP status
    |   +-- InvalidRequest        400  the body, or a name in it, is wrong
    |   |   +-- NotTrading             the symbol exists and does not trade at the moment
    |   +-- NotRunning            404  the series to remove does not run
    |   +-- NoSuchJob             404
    |   +-- JobOver               409  the job has ended: nothing can be changed
    |   +-- TooManyJobs           409  as many wait as may
    |   +-- NoSuchSocket          404  no websocket is served at this path
    |   +-- TooManySockets        503
    |   +-- SymbolLimitReached    409
    |   +-- NotConfirmed          504  the exchange did not answer in time
    |   +-- ShuttingDown          503
    |   +-- NoSnapshots           409  the store is read in another way
    |   +-- SnapshotGone          404
    |   +-- SnapshotFailed        503  the store could not take it: its disk is full, for example
    |   +-- NoSuchFile            404
    |   +-- ReadError                  a read cannot be answered; carries the exchange's code
    |   |   +-- BadRead             400  the exchange would refuse it, too
    |   |   +-- NotReadable         503  some of its candles are not there: try again
    |   |   +-- Overloaded          503  there is no room for it now; says when to try again
    |   |   +-- NotServed           404  nothing is answered here at its path
    |   +-- Unauthorized          401  the token is missing or wrong
    |   +-- Forbidden             403  refused with any token: an unsafe address, or a web page
    +-- ExchangeError
    |   +-- ExchangeUnreachable   no answer, or the exchange is busy: try again
    |   +-- ExchangeRefused       the exchange refused the request
    |   +-- NotSent               the request was withdrawn for a more urgent one
    |   +-- BadFrame              a frame that cannot be read
    +-- StoreError
    |   +-- StoreUnavailable      outcome unknown or nothing stored: send the same batch again
    |   |   +-- StoreOverloaded       the same, but later
    |   |   +-- StoreAnswerUnknown    the same, but it may fail for ever
    |   +-- StoreMisconfigured    an operator must act (login, table, disk); the rows are fine
    |   +-- RowsRefused           the store will never take these rows
    +-- StateError              the file that keeps the subscriptions cannot be used
    |   +-- StateUnreadable       its content is not for this agent: retrying is no use
    +-- AgentError              a command to a running agent failed
    |   +-- AgentUnreachable      the agent does not run, or did not answer in time
    |   +-- AgentDenied           the agent requires a token, or another one
    |   +-- AgentRefused          the agent refused the command
    +-- QueryFailed             the engine refused a user's query, or broke it off
    +-- OutputError             a command's output cannot be written
    |   +-- OutputClosed          the reader of the output has closed it
    +-- SpoolError              the spool cannot be used
        +-- SpoolFull             no room for these rows: keep them in memory, or free some
        +-- SpoolBroken           the disk failed; rows may not have been kept
        +-- SegmentDamaged        a segment is not what was once written
        +-- SegmentTooNew         a newer klineagent wrote a segment

Errors of libraries are translated where they arise, so that callers catch these. `str(error)` is a
sentence for a user, and says what to do if something can be done.
"""

import math
from typing import TypeVar

import msgspec

from klineagent.core.interrupts import INTERRUPTED

_Error = TypeVar("_Error", bound=BaseException)

# "Unknown error": clients take it for one that passes, and try again.
_OPERATION_FAILED = -1000
# So is "server overloaded", -1008, but not by ccxt where the exchange has another address.

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The errors of decoding bytes from outside: not JSON, not UTF-8, nested too deeply."""


class KlineagentError(Exception):
    """The root of everything klineagent raises on purpose."""

    exit_code = 1
    """The exit code of a command that fails with this error."""


class Interrupted(KlineagentError):
    """Ctrl-C interrupted a command."""

    exit_code = INTERRUPTED


class ConfigError(KlineagentError):
    """An option, environment variable or configuration file cannot be used."""

    exit_code = 2


class StartError(KlineagentError):
    """A step of the start failed: an address is taken, a database refuses us."""


class RequestError(KlineagentError):
    """A command cannot be carried out; nothing was changed."""

    http_status = 400


class InvalidRequest(RequestError):
    """The request's body, or a symbol or interval named in it, is wrong."""


class NotTrading(InvalidRequest):
    """A symbol exists and does not trade, at the moment or any more."""


class NotRunning(RequestError):
    """The series to remove does not run."""

    http_status = 404


class NoSuchJob(RequestError):
    """The agent has no job of that id."""

    http_status = 404


class JobOver(RequestError):
    """The job has ended, so it can neither be paused nor cancelled."""

    http_status = 409


class TooManyJobs(RequestError):
    """As many jobs wait as may."""

    http_status = 409


class NoSuchSocket(RequestError):
    """No websocket is served at this path."""

    http_status = 404


class TooManySockets(RequestError):
    """As many clients listen to streams as may."""

    http_status = 503


class SymbolLimitReached(RequestError):
    """The agent already serves as many symbols as it may."""

    http_status = 409


class NotConfirmed(RequestError):
    """The exchange did not confirm in time."""

    http_status = 504


class ShuttingDown(RequestError):
    """The agent is stopping and starts no series any more."""

    http_status = 503


class NoSnapshots(RequestError):
    """The agent's store has no snapshots; the text says how it is read."""

    http_status = 409


class SnapshotGone(RequestError):
    """There is no such snapshot, or no longer."""

    http_status = 404


class NoSuchFile(RequestError):
    """The dashboard has no such file."""

    http_status = 404


class SnapshotFailed(RequestError):
    """The store could not take a snapshot, or keeps too many already."""

    http_status = 503


class ReadError(RequestError):
    """A read cannot be answered; `code` is the one by which clients know the exchange's errors."""

    retry_after_s: int | None = None
    """In how many seconds to try again, as far as that is known."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class BadRead(ReadError):
    """The exchange would refuse the read, with this code and text."""


class NotReadable(ReadError):
    """Some of the candles are not there, or not yet; the text says which, and what to do."""

    http_status = 503

    def __init__(self, text: str) -> None:
        super().__init__(_OPERATION_FAILED, text)


class Overloaded(ReadError):
    """There is no room for the read at this moment."""

    http_status = 503

    def __init__(self, text: str, *, retry_after_s: float) -> None:
        super().__init__(_OPERATION_FAILED, text)
        self.retry_after_s = max(1, math.ceil(retry_after_s))


class NotServed(ReadError):
    """Nothing is answered here at the path of the read."""

    http_status = 404

    def __init__(self, text: str) -> None:
        super().__init__(_OPERATION_FAILED, text)


class Unauthorized(RequestError):
    """The token is missing or wrong."""

    http_status = 401


class Forbidden(RequestError):
    """The request is not allowed at this address, or not from its origin."""

    http_status = 403


class ExchangeError(KlineagentError):
    """A request to the exchange, or a connection to it, failed."""


class ExchangeUnreachable(ExchangeError):
    """No connection could be made, it broke, or the exchange is busy: try again later."""


class ExchangeRefused(ExchangeError):
    """The exchange refused the request."""


class NotSent(ExchangeError):
    """A request was withdrawn while it waited for its turn, for a more urgent one."""


class BadFrame(ExchangeError):
    """A frame is not JSON, lacks fields or holds values no candle can have."""


class StoreError(KlineagentError):
    """An operation of the store failed."""


class StoreUnavailable(StoreError):
    """Nothing was stored, or it is unknown whether: send the identical batch again."""


class StoreAnswerUnknown(StoreUnavailable):
    """The store answered with an unknown error: it may pass, or an operator must act."""


class StoreOverloaded(StoreUnavailable):
    """The store needs time; send the identical batch again, later."""


class StoreMisconfigured(StoreError):
    """An operator must act: login, database, table, disk. The rows are fine."""


class RowsRefused(StoreError):
    """The store will never accept these rows."""


class StateError(KlineagentError):
    """The file that keeps the subscriptions cannot be read or written."""


class StateUnreadable(StateError):
    """The state file's content cannot be read, or is for another venue or version."""


class AgentError(KlineagentError):
    """A command to a running agent failed."""


class AgentUnreachable(AgentError):
    """The agent does not run, or did not answer in time; the command may still take effect."""

    exit_code = 3


class AgentDenied(AgentError):
    """The agent requires a token or another one, or refuses requests from here."""

    exit_code = 4


class AgentRefused(AgentError):
    """The agent refused the command; nothing was changed."""


class QueryFailed(KlineagentError):
    """The engine refused a user's query, or broke it off."""


class OutputError(KlineagentError):
    """A command's output cannot be written to standard output; the remainder is lost."""


class OutputClosed(OutputError):
    """The reader closed standard output, as `head` does; that needs no message."""


class SpoolError(KlineagentError):
    """An operation of the spool failed."""


class SpoolFull(SpoolError):
    """There is no room: the disk is full, or the spool's limit is reached."""


class SpoolBroken(SpoolError):
    """The disk failed; rows may not have been kept."""


class SegmentDamaged(SpoolError):
    """A segment of the spool is not what was once written."""


class SegmentTooNew(SpoolError):
    """A newer klineagent wrote a segment of the spool, which stays where it is."""


def first_of(group: BaseExceptionGroup[_Error]) -> _Error:
    """Return the first error in `group`, however deeply it is nested."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error


def reason_of(error: BaseException) -> str:
    """Return the text of the root cause; libraries wrap it in errors of their own."""
    reason = type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        tries = cause.exceptions if isinstance(cause, BaseExceptionGroup) else [cause]
        reason = ", ".join(text for each in tries if (text := str(each))) or reason
        cause = cause.__cause__ or cause.__context__
    return reason
