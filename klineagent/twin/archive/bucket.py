"""The listing of a bucket, as the storage behind the archive answers it. Pure.

A bucket is a tree here, read where a listing looks only: its keys are never all in memory.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol
from xml.sax.saxutils import escape

from attrs import frozen

from klineagent.twin.interval import SECOND_MS

_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
NAME = "data.binance.vision"


@frozen
class Stored:
    """An object of the bucket."""

    key: str
    size: int
    etag: str
    """Without its quotation marks."""
    modified_ms: int


class ObjectTree(Protocol):
    """A tree of objects."""

    def folder(self, prefix: str) -> Iterator[Stored | str]:
        """Yield what lies in a folder, in any order: objects, and prefixes of folders.

        `prefix` is empty or ends with `/`.
        """


def list_bucket(bucket: ObjectTree, query: Mapping[str, str], most_keys: int) -> bytes:
    """Answer a request for a listing of at most `most_keys` entries.

    Raises:
        ValueError: `max-keys` is no number.
    """
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    most_keys = min(most_keys, int(query.get("max-keys", most_keys)))
    is_second = query.get("list-type") == "2"
    after = _after(query, is_second=is_second)
    entries = list(islice(_entries(bucket, prefix, delimiter, after), most_keys + 1))
    is_truncated = len(entries) > most_keys
    entries = entries[:most_keys]
    last = _name(entries[-1]) if entries else ""
    head = f"<Name>{NAME}</Name><Prefix>{escape(prefix)}</Prefix>"
    if is_second:
        if (token := query.get("continuation-token")) is not None:
            head += f"<ContinuationToken>{escape(token)}</ContinuationToken>"
        if is_truncated:
            following = base64.urlsafe_b64encode(last.encode()).decode()
            head += f"<NextContinuationToken>{following}</NextContinuationToken>"
        head += f"<KeyCount>{len(entries)}</KeyCount>"
    else:
        head += f"<Marker>{escape(after)}</Marker>"
        # Without a delimiter the last key serves as the next marker, and the answer has none.
        if is_truncated and delimiter:
            head += f"<NextMarker>{escape(last)}</NextMarker>"
    head += f"<MaxKeys>{most_keys}</MaxKeys>"
    if delimiter:
        head += f"<Delimiter>{escape(delimiter)}</Delimiter>"
    head += f"<IsTruncated>{'true' if is_truncated else 'false'}</IsTruncated>"
    objects = "".join(_contents(each) for each in entries if isinstance(each, Stored))
    folders = "".join(
        f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>"
        for each in entries
        if isinstance(each, str)
    )
    text = (
        f'{_XML}<ListBucketResult xmlns="{_NAMESPACE}">{head}{objects}{folders}</ListBucketResult>'
    )
    return text.encode()


def error_answer(code: str, text: str, key: str) -> bytes:
    """The body of a refusal."""
    return (
        f"{_XML}<Error><Code>{code}</Code><Message>{text}</Message><Key>{escape(key)}</Key>"
        "<RequestId>7B4A0FABBEXAMPLE</RequestId><HostId>klineagent-simulate</HostId></Error>"
    ).encode()


def _after(query: Mapping[str, str], *, is_second: bool) -> str:
    """The key after which the listing begins."""
    if not is_second:
        return query.get("marker", "")
    token = query.get("continuation-token")
    if token is None:
        return query.get("start-after", "")
    return base64.urlsafe_b64decode(token.encode()).decode()


def _entries(bucket: ObjectTree, prefix: str, delimiter: str, after: str) -> Iterator[Stored | str]:
    """Yield all entries after a key, in the order of their UTF-8 bytes."""
    folder = prefix[: prefix.rfind("/") + 1]
    found = [each for each in bucket.folder(folder) if _name(each).startswith(prefix)]
    for each in sorted(found, key=lambda each: _name(each).encode()):
        name = _name(each)
        if isinstance(each, str) and delimiter != "/":
            # All keys of a folder lie between its prefix and the next name.
            if name.encode() > after.encode() or after.startswith(name):
                yield from _entries(bucket, name, delimiter, after)
        elif name.encode() > after.encode():
            yield each


def _name(entry: Stored | str) -> str:
    return entry if isinstance(entry, str) else entry.key


def _contents(stored: Stored) -> str:
    modified = datetime.fromtimestamp(stored.modified_ms // SECOND_MS, UTC)
    return (
        f"<Contents><Key>{escape(stored.key)}</Key>"
        f"<LastModified>{modified:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
        f"<ETag>&quot;{stored.etag}&quot;</ETag><Size>{stored.size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )
