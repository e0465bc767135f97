from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from klineagent.twin.archive.bucket import Stored, list_bucket

KEYS = st.sets(
    st.lists(st.sampled_from(["a", "ab", "a_1", "b", "Z", "币", "&"]), min_size=1, max_size=4).map(
        "/".join
    ),
    min_size=1,
)


@frozen
class Keys:
    """A tree of keys that are all known."""

    keys: frozenset[str]

    def folder(self, prefix: str) -> Iterator[Stored | str]:
        """See `ObjectTree`."""
        below = {key.removeprefix(prefix) for key in self.keys if key.startswith(prefix)}
        yield from {f"{prefix}{key.split('/')[0]}/" for key in below if "/" in key}
        for key in below:
            if "/" not in key:
                yield Stored(prefix + key, 7, "etag", 1_769_904_000_000)


def told(text: str) -> list[str]:
    """The keys and folders that a listing names."""
    names = re.findall("<Key>([^<]*)</Key>|<CommonPrefixes><Prefix>([^<]*)<", text)
    return [(key or folder).replace("&amp;", "&") for key, folder in names]


def paged(keys: frozenset[str], query: dict[str, str], most: int) -> list[str]:
    """What all pages of a listing name."""
    found: list[str] = []
    while True:
        text = list_bucket(Keys(keys), query, most).decode()
        page = told(text)
        assert len(page) <= most
        found += page
        if "<IsTruncated>false" in text:
            return found
        if query.get("list-type") == "2":
            following = re.search("<NextContinuationToken>(.*)</Next", text)
            assert following is not None
            query = {**query, "continuation-token": following[1]}
        else:
            following = re.search("<NextMarker>(.*)</Next", text)
            assert (following is None) is ("delimiter" not in query)
            # Objects come before folders in the text; the last name is the largest.
            query = {**query, "marker": max(page, key=str.encode)}


@given(KEYS.map(frozenset), st.integers(1, 5), st.sampled_from([{}, {"list-type": "2"}]))
def test_pages_of_any_size_name_each_key_once(
    keys: frozenset[str], most: int, kind: dict[str, str]
) -> None:
    """With a delimiter each folder, and without one all that lies below."""
    assert sorted(paged(keys, kind, most)) == sorted(keys)
    assert sorted(paged(keys, {**kind, "prefix": "a"}, most)) == sorted(
        key for key in keys if key.startswith("a")
    )
    top = {key.split("/")[0] + "/" * ("/" in key) for key in keys}
    assert sorted(paged(keys, {**kind, "delimiter": "/"}, most)) == sorted(top)


def test_keys_come_in_the_order_of_their_bytes() -> None:
    """Not as a folder sorts its names: a slash comes before letters."""
    keys = frozenset({"BTC/1", "BTC_2/1", "BTC-/1"})
    assert told(list_bucket(Keys(keys), {}, 10).decode()) == ["BTC-/1", "BTC/1", "BTC_2/1"]


def test_an_object_is_described() -> None:
    """Its time, its ETag in quotation marks, and its size."""
    text = list_bucket(Keys(frozenset({"a"})), {}, 10).decode()
    assert (
        "<Contents><Key>a</Key><LastModified>2026-02-01T00:00:00.000Z</LastModified>"
        "<ETag>&quot;etag&quot;</ETag><Size>7</Size>"
    ) in text


def test_a_smaller_page_may_be_asked_for() -> None:
    """By `max-keys`, which must be a number."""
    keys = frozenset("abc")
    assert told(list_bucket(Keys(keys), {"max-keys": "2"}, 10).decode()) == ["a", "b"]
    with pytest.raises(ValueError, match="invalid literal"):
        list_bucket(Keys(keys), {"max-keys": "all"}, 10)
