"""Maps ClickHouse's error codes to our errors. Pure.

The codes are those of ClickHouse's `ErrorCodes.cpp`, for servers and the embedded engine alike.
"""

from __future__ import annotations

from klineagent.core.errors import (
    RowsRefused,
    StoreAnswerUnknown,
    StoreError,
    StoreMisconfigured,
    StoreOverloaded,
    StoreUnavailable,
)

TOO_MANY_PARTS = 252

_TEMPORARY = frozenset({
    3,  # UNEXPECTED_END_OF_FILE
    102,  # UNEXPECTED_PACKET_FROM_CLIENT
    159,  # TIMEOUT_EXCEEDED
    198,  # DNS_ERROR
    209,  # SOCKET_TIMEOUT
    210,  # NETWORK_ERROR
    216,  # QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING
    225,  # NO_ZOOKEEPER
    236,  # ABORTED
    242,  # TABLE_IS_READ_ONLY
    254,  # NO_REPLICA_HAS_PART
    279,  # ALL_CONNECTION_TRIES_FAILED
    285,  # TOO_FEW_LIVE_REPLICAS
    286,  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
    319,  # UNKNOWN_STATUS_OF_INSERT
    341,  # UNFINISHED
    364,
    369,  # ALL_REPLICAS_ARE_STALE
    394,  # QUERY_WAS_CANCELLED
    416,
    425,  # SYSTEM_ERROR
    439,  # CANNOT_SCHEDULE_TASK
    519,  # ALL_REPLICAS_LOST
    574,  # DISTRIBUTED_TOO_MANY_PENDING_BYTES
    659,  # UNKNOWN_STATUS_OF_TRANSACTION
    722,  # ASYNC_LOAD_WAIT_FAILED
    733,  # TABLE_IS_BEING_RESTARTED
    999,  # KEEPER_EXCEPTION
    1000,  # POCO_EXCEPTION
    1001,  # STD_EXCEPTION
    1002,  # UNKNOWN_EXCEPTION
})  # fmt: skip
_OVERLOADED = frozenset({
    173,  # CANNOT_ALLOCATE_MEMORY
    201,  # QUOTA_EXCEEDED
    202,  # TOO_MANY_SIMULTANEOUS_QUERIES
    203,  # NO_FREE_CONNECTION
    241,  # MEMORY_LIMIT_EXCEEDED
    243,  # NOT_ENOUGH_SPACE
    TOO_MANY_PARTS,
    692,  # TOO_MANY_MUTATIONS
    745,  # SERVER_OVERLOADED
})  # fmt: skip
_MISCONFIGURED = frozenset({
    60,  # UNKNOWN_TABLE
    81,  # UNKNOWN_DATABASE
    115,  # UNKNOWN_SETTING
    164,  # READONLY
    192,  # UNKNOWN_USER
    193,  # WRONG_PASSWORD
    194,  # REQUIRED_PASSWORD
    291,  # DATABASE_ACCESS_DENIED
    392,  # QUERY_IS_PROHIBITED
    452,  # SETTING_CONSTRAINT_VIOLATION
    497,  # ACCESS_DENIED
    516,  # AUTHENTICATION_FAILED
})  # fmt: skip
_REFUSED = frozenset({
    6,  # CANNOT_PARSE_TEXT
    16,  # NO_SUCH_COLUMN_IN_TABLE
    27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
    33,  # CANNOT_READ_ALL_DATA
    36,  # BAD_ARGUMENTS
    41,  # CANNOT_PARSE_DATETIME
    44,  # ILLEGAL_COLUMN
    47,  # UNKNOWN_IDENTIFIER
    53,  # TYPE_MISMATCH
    62,  # SYNTAX_ERROR
    117,  # INCORRECT_DATA
    349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    469,  # VIOLATED_CONSTRAINT
})  # fmt: skip


def classify(code: int, message: str) -> type[StoreError]:
    """Return the type of error for an answer of `code`.

    An unknown code counts as temporary at first: sending the same batch again never harms, while
    rows wrongly taken for bad would be lost.
    """
    if code == TOO_MANY_PARTS and "single INSERT block" in message:
        # The same code, but for rows of too many months in one insert, which fails every time.
        return RowsRefused
    if code in _OVERLOADED:
        return StoreOverloaded
    if code in _MISCONFIGURED:
        return StoreMisconfigured
    if code in _REFUSED:
        return RowsRefused
    return StoreUnavailable if code in _TEMPORARY or not code else StoreAnswerUnknown


def error_of(label: str, code: int, message: str) -> StoreError:
    """Make the error for an answer of the database `label`, with its message's first line."""
    reason = message.removeprefix("DB::Exception: ").split("\n", maxsplit=1)[0]
    return classify(code, message)(f"{label}: {reason} (code {code})")
