from __future__ import annotations

from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.errors import SegmentDamaged, SegmentTooNew
from klineagent.core.kline import Kline
from klineagent.storage.spool import segment
from klineagent.storage.spool.segment import Contents, boot_of, new_name, renewed_name, rows_of
from klineagent.storage.store import Batch, Table
from tests.places import EARLIER
from tests.storage.samples import sample
from tests.storage.spools import candles

_values: dict[type, st.SearchStrategy[object]] = {
    str: st.text(max_size=8),
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
}
klines = st.builds(Kline, **{name: _values[each] for name, each in get_type_hints(Kline).items()})
contents = st.builds(
    Contents,
    st.builds(Batch, st.text(), st.lists(klines, max_size=4).map(tuple), st.sampled_from(Table)),
    st.text(),
)
SEGMENTS = EARLIER / "spool"
SOUND = segment.encode(Contents(candles(1)))


@given(contents)
def test_what_is_written_is_read(written: Contents) -> None:
    """Token, table, reason and rows come back exactly."""
    assert segment.decode(segment.encode(written)) == written


@given(st.integers(0, len(SOUND) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    """Each bit is covered."""
    data = bytearray(SOUND)
    data[place] ^= change
    with pytest.raises(SegmentDamaged):
        segment.decode(bytes(data))


@given(st.integers(0, len(SOUND) - 1))
def test_a_file_that_is_cut_is_noticed(length: int) -> None:
    """At any length, none included."""
    with pytest.raises(SegmentDamaged):
        segment.decode(SOUND[:length])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cut short in its header, after 0 bytes"),
        (SOUND[:9], "cut short in its header, after 9 bytes"),
        (bytes(len(SOUND)), "does not begin as a segment does"),
        (SOUND[:4] + b"\x07\x00" + SOUND[6:], "checksum is wrong"),
        (SOUND[:-1], rf"has {len(SOUND) - 15} of {len(SOUND) - 14} bytes"),
        (SOUND + b"x", rf"has {len(SOUND) - 13} of {len(SOUND) - 14} bytes"),
        (SOUND[:-1] + b"x", "checksum is wrong"),
    ],
)
def test_damage_is_described(data: bytes, reason: str) -> None:
    """The error says how the file is damaged."""
    with pytest.raises(SegmentDamaged, match=reason):
        segment.decode(data)


def test_a_file_of_a_newer_format_is_not_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which version wrote it, in the place that all formats keep."""
    monkeypatch.setattr(segment, "FORMAT", 3)
    monkeypatch.setattr(segment, "__version__", "4.5.6")
    newer = segment.encode(Contents(candles(1)))
    monkeypatch.undo()
    assert segment.may_be_newer(newer[: segment.BEGINNING_SIZE])
    assert not segment.may_be_newer(SOUND)
    with pytest.raises(SegmentTooNew, match=r"klineagent 4\.5\.6 wrote it \(format 3\)"):
        segment.decode(newer)


def test_files_of_an_earlier_agent_are_read() -> None:
    """Commit 3f94213 wrote these: format 1, rows of 19 columns."""
    files = sorted(SEGMENTS.glob("*/*.seg"))
    read = [segment.decode(file.read_bytes()) for file in files]
    assert [each.batch.token for each in read] == ["old-1", "old-2", "old-4", "old-3"]
    assert [len(each.batch.klines) for each in read] == [rows_of(file.name) for file in files]
    assert [each.reason for each in read] == ["", "", "code 469: constraint", ""]
    assert {kline.source for each in read for kline in each.batch.klines} == {"unknown"}


def test_a_sound_file_of_other_rows_is_no_segment() -> None:
    """The checksum is right, but the columns are not ours."""
    klines = (sample()[:-2],)
    data = segment.encode(Contents(Batch("a", klines)))  # type: ignore[arg-type]  # that is the point
    with pytest.raises(SegmentDamaged, match="rows cannot be read"):
        segment.decode(data)


def test_a_file_is_much_smaller_than_its_rows() -> None:
    """Rows of neighbouring minutes take a third of their 150 bytes or less."""
    assert len(segment.encode(Contents(candles(1, rows=1000)))) < 50_000


def test_names_sort_as_they_were_given() -> None:
    """First by run, then by number; rows do not matter."""
    names = [new_name(1, 2, 9), new_name(1, 10, 1), new_name(2, 1, 5), new_name(10, 1, 3)]
    assert sorted(names) == names


def test_no_name_comes_twice() -> None:
    """Even where the counters do."""
    assert len({new_name(1, 1, 1) for _ in range(100)}) == 100


def test_a_name_tells_run_and_rows() -> None:
    """So that neither needs a file to be read."""
    name = new_name(12, 3, 5000)
    assert (boot_of(name), rows_of(name)) == (12, 5000)
    assert (boot_of("backup.seg"), rows_of("backup.seg")) == (0, 0)


def test_a_renewed_name_keeps_its_place() -> None:
    """It differs, and sorts where the old one did."""
    old, after = new_name(1, 2, 3), new_name(1, 3, 3)
    new = renewed_name(old)
    assert new != old
    assert (boot_of(new), rows_of(new)) == (1, 3)
    assert new < after
    assert renewed_name("backup.seg") == "backup.seg"
