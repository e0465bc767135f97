from klineagent.core.interval import DAY_MS, MINUTE_MS
from klineagent.twin.rest.api import WeightMeter

MINUTE = 1_769_904_000_000


def test_the_window_is_the_clock_minute() -> None:
    """Weight used at the end of a minute does not count in the next."""
    meter = WeightMeter(limit=10)
    assert meter.spend(10, MINUTE - 1) is None
    assert meter.spend(10, MINUTE) is None
    assert meter.spend(1, MINUTE + 59_999) == 429
    assert meter.used == 11


def test_a_refusal_says_how_long_to_wait() -> None:
    """Whole seconds to the end of the minute, at least one."""
    meter = WeightMeter(limit=0)
    meter.spend(1, MINUTE + 1)
    assert meter.retry_after_s(MINUTE + 1) == 60
    assert meter.retry_after_s(MINUTE + 59_999) == 1


def test_bans_get_longer_each_time() -> None:
    """Two minutes at first, then twice as long, three days at most."""
    meter = WeightMeter(limit=0)
    now = MINUTE
    bans = []
    for _ in range(15):
        answers = []
        while 418 not in answers:
            answers.append(meter.spend(1, now))
        assert answers == [429] * 5 + [418]
        bans.append(meter.banned_until_ms - now)
        assert meter.spend(0, meter.banned_until_ms - 1) == 418
        assert meter.retry_after_s(now) == bans[-1] // 1_000
        now = meter.banned_until_ms + MINUTE_MS
    assert bans[:3] == [2 * MINUTE_MS, 4 * MINUTE_MS, 8 * MINUTE_MS]
    assert bans[-1] == 3 * DAY_MS
