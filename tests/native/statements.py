"""What must be known of a statement before it can be run. Pure."""

from __future__ import annotations

import re

from attrs import frozen

_FORMAT = re.compile(r"\s+FORMAT\s+\w+\s*;?\s*\Z", re.IGNORECASE)
_INSERT = re.compile(
    r"""
    \s* INSERT \s+ INTO \s+ (?:TABLE\s+)?
    (?P<table> [\w.`"]+ ) \s*
    (?: \( (?P<columns> [^)]* ) \) \s* )?
    (?P<settings> SETTINGS \s+ \w+ \s* = .+? \s+ )?
    (?: VALUES | FORMAT \s+ \w+ ) \s* ;? \s*
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t"})


@frozen
class DataInsert:
    """The head of an INSERT whose rows come as blocks."""

    table: str
    columns: str
    """As written between the parentheses; empty where there are none."""
    settings: str
    """The SETTINGS clause; empty where there is none."""

    @property
    def target(self) -> str:
        """`INSERT INTO` with table and columns."""
        return f"INSERT INTO {self.table} " + (f"({self.columns})" if self.columns else "")


def data_insert(text: str) -> DataInsert | None:
    """Tell whether rows will follow `text`: it is an INSERT that ends before its data."""
    match = _INSERT.fullmatch(text)
    if match is None:
        return None
    return DataInsert(match["table"], match["columns"] or "", (match["settings"] or "").strip())


def without_format(text: str) -> str:
    """The query without a FORMAT at its end, which is the client's business."""
    return _FORMAT.sub("", text)


def literal(text: str) -> str:
    """A string literal."""
    return f"'{escaped(text)}'"


def escaped(text: str) -> str:
    """Text as ClickHouse writes it between quotes or tabs."""
    return text.translate(_ESCAPES)
