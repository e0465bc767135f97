"""Every error klineagent raises on purpose.

    KlineagentError
    +-- ConfigError             an option, environment variable or file cannot be used
    +-- StartError              a step of the start failed
    +-- RequestError            a command cannot be carried out; carries its HTTP status
    |   +-- InvalidRequest        400  the body, or a name in it, is wrong
    |   |   +-- NotTrading             the symbol exists and does not trade at the moment
    |   +-- NotRunning            404  what should be removed does not run
    |   +-- SymbolLimitReached    409
    |   +-- NotConfirmed          504  the exchange did not answer in time
    |   +-- ShuttingDown          503
    |   +-- Unauthorized          401  the token is missing or wrong
    |   +-- Forbidden             403  no token would help: an unsafe place, or a web page
    +-- ExchangeError
    |   +-- ExchangeUnreachable   no answer, or no time for us: try again
    |   +-- ExchangeRefused       it answered, and the answer was no
    |   +-- NotSent               nobody was asked: something more urgent came up
    |   +-- BadFrame              a frame that is not what it should be
    +-- StoreError
    |   +-- StoreUnavailable      outcome unknown or nothing stored: send the same batch again
    |   |   +-- StoreOverloaded       the same, but give it time
    |   |   +-- StoreAnswerUnknown    the same, but it may never pass
    |   +-- StoreMisconfigured    an operator must act (login, table, disk); the rows are fine
    |   +-- RowsRefused           the store will never take these rows
    +-- StateError              the file that keeps the subscriptions cannot be used
    |   +-- StateUnreadable       what is in it is not for this agent; it will not change by itself
    +-- AgentError              a command to a running agent failed
    |   +-- AgentUnreachable      it is not there, or did not answer in time
    |   +-- AgentDenied           it wants a token, or another one
    |   +-- AgentRefused          it answered, and the answer was no
    +-- OutputError             what a command tells cannot be written
    |   +-- OutputClosed          who was reading has read enough
    +-- SpoolError              the spool cannot be used
        +-- SpoolFull             no room for these rows: keep them, or make some
        +-- SpoolBroken           the disk failed; nothing is known to be kept
        +-- SegmentDamaged        a file is not what was once written
        +-- SegmentTooNew         a newer klineagent wrote a file

Foreign errors are translated where they arise, so callers catch these by name. `str(error)` is a
sentence for a user and says what to do where something can be done.
"""

import msgspec

from klineagent.core.interrupts import INTERRUPTED

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding bytes from outside raises: not JSON, not UTF-8, nested too deeply."""


class KlineagentError(Exception):
    """The root of everything klineagent raises on purpose."""

    exit_code = 1
    """What a command ends with that fails because of it."""


class Interrupted(KlineagentError):
    """Ctrl-C has ended what was not done yet."""

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
    """What should be removed does not run."""

    http_status = 404


class SymbolLimitReached(RequestError):
    """The agent already serves as many symbols as it may."""

    http_status = 409


class NotConfirmed(RequestError):
    """The exchange did not confirm in time."""

    http_status = 504


class ShuttingDown(RequestError):
    """The agent is stopping and starts nothing any more."""

    http_status = 503


class Unauthorized(RequestError):
    """The token is missing or wrong."""

    http_status = 401


class Forbidden(RequestError):
    """Nobody may ask for this here, or not from where it was asked."""

    http_status = 403


class ExchangeError(KlineagentError):
    """Something went wrong between us and the exchange."""


class ExchangeUnreachable(ExchangeError):
    """No connection could be made, it broke, or the exchange is busy: try again later."""


class ExchangeRefused(ExchangeError):
    """The exchange answered, and the answer was no."""


class NotSent(ExchangeError):
    """A request was called back while it waited for its turn, for something more urgent."""


class BadFrame(ExchangeError):
    """A frame is not JSON, lacks fields or holds values no candle can have."""


class StoreError(KlineagentError):
    """A store could not do what it was asked."""


class StoreUnavailable(StoreError):
    """Nothing was stored, or nobody can tell: send the identical batch again."""


class StoreAnswerUnknown(StoreUnavailable):
    """The store said no in a way nobody here knows: it may pass, or be a matter for an operator."""


class StoreOverloaded(StoreUnavailable):
    """The store needs time; send the identical batch again, later."""


class StoreMisconfigured(StoreError):
    """An operator must act: login, database, table, disk. The rows are fine."""


class RowsRefused(StoreError):
    """The store will never accept these rows."""


class StateError(KlineagentError):
    """The file that keeps the subscriptions cannot be read or written."""


class StateUnreadable(StateError):
    """What is in it cannot be understood, or is for another venue or version."""


class AgentError(KlineagentError):
    """A command to a running agent failed."""


class AgentUnreachable(AgentError):
    """The agent is not there, or did not answer in time; what was asked may yet be done."""

    exit_code = 3


class AgentDenied(AgentError):
    """The agent wants a token, or another one, or does not talk to such as us at all."""

    exit_code = 4


class AgentRefused(AgentError):
    """The agent answered, and the answer was no; nothing was changed."""


class OutputError(KlineagentError):
    """Standard output does not take what a command tells; the rest is lost."""


class OutputClosed(OutputError):
    """Who was reading has read enough, as `head` does; nothing need be said of that."""


class SpoolError(KlineagentError):
    """The spool cannot do what it was asked."""


class SpoolFull(SpoolError):
    """There is no room: the disk is full, or the spool's limit is reached."""


class SpoolBroken(SpoolError):
    """The disk failed; what should have been kept may not be."""


class SegmentDamaged(SpoolError):
    """A file of the spool is not what was once written."""


class SegmentTooNew(SpoolError):
    """A file of the spool is of a newer klineagent's; it stays where it is."""


def reason_of(error: BaseException) -> str:
    """What went wrong in the first place; libraries raise errors of their own because of it."""
    reason = type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        tries = cause.exceptions if isinstance(cause, BaseExceptionGroup) else [cause]
        reason = ", ".join(text for each in tries if (text := str(each))) or reason
        cause = cause.__cause__ or cause.__context__
    return reason
