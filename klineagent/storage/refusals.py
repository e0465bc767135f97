"""What ClickHouse's error codes mean for whoever wants to store rows. Pure.

Codes are those of ClickHouse's `ErrorCodes.cpp`; the engine is the same over the wire and embedded.
"""

from __future__ import annotations

from klineagent.errors import (
    RowsRefused,
    StoreError,
    StoreMisconfigured,
    StoreOverloaded,
    StoreUnavailable,
)

TOO_MANY_PARTS = 252

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
    """The error an answer of `code` stands for.

    What is not listed counts as passing: sending the same batch again never harms, while taking
    rows for bad that are not would lose them.
    """
    if code == TOO_MANY_PARTS and "single INSERT block" in message:
        # The same code for another matter: rows of too many months at once, whenever they come.
        return RowsRefused
    if code in _OVERLOADED:
        return StoreOverloaded
    if code in _MISCONFIGURED:
        return StoreMisconfigured
    if code in _REFUSED:
        return RowsRefused
    return StoreUnavailable


def refusal(label: str, code: int, message: str) -> StoreError:
    """The error for what the database called `label` answered, with its first sentence."""
    reason = message.removeprefix("DB::Exception: ").split("\n", maxsplit=1)[0]
    return classify(code, message)(f"{label}: {reason} (code {code})")
