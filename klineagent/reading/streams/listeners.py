"""Who listens to the events of a series, and in which form. Pure."""

from __future__ import annotations

from attrs import define, field

from klineagent.core.kline import SeriesName
from klineagent.reading.streams.events import CandleEvent, Form
from klineagent.reading.streams.name import StreamName
from klineagent.reading.streams.order import CandleOrder
from klineagent.reading.streams.outbox import Outbox


@define(eq=False, kw_only=True)
class StreamListener:
    """One stream of one client."""

    outbox: Outbox
    name: StreamName
    series: tuple[SeriesName, ...]
    """What the name may mean; the first that is recorded."""
    form: Form

    def greet(self, event: CandleEvent) -> None:
        """Take the first event for the client."""
        self.outbox.put(self, event.framed(self.form), is_closing=event.is_closing)
        self.outbox.hurry()


@define(eq=False)
class SeriesEvents:
    """The events of one series, and all who listen to them."""

    order: CandleOrder
    listeners: dict[Form, dict[StreamListener, None]] = field(factory=dict, init=False)

    def add(self, listener: StreamListener) -> None:
        """Send the next events to `listener`, too."""
        self.listeners.setdefault(listener.form, {})[listener] = None

    def discard(self, listener: StreamListener) -> bool:
        """Send no more events to `listener`; False if it did not listen."""
        alike = self.listeners.get(listener.form, {})
        if listener not in alike:
            return False
        del alike[listener]
        if not alike:
            del self.listeners[listener.form]
        return True

    def send(self, events: list[CandleEvent]) -> None:
        """Hand `events` to all listeners."""
        for event in events:
            for form, listeners in self.listeners.items():
                frame, is_closing = event.framed(form), event.is_closing
                for listener in listeners:
                    listener.outbox.put(listener, frame, is_closing=is_closing)
