// The panel of venues, side by side, and how far each interval is behind.

import { make } from "./element.js";
import { duration, number } from "./format.js";
import { byLength } from "./interval.js";
import { table } from "./table.js";

export function open(section, page) {
  page.curl(section, "GET", "/v1/coverage");
  const body = section.querySelector(".body");
  const show = table(body, {
    caption: "Venues side by side",
    none: "No venue is recorded.",
    key: ({ venue }) => venue,
    columns: [
      { title: "Venue", cell: ({ venue, is_default }) => `${venue}${is_default ? " (default)" : ""}`, head: true },
      { title: "Symbols", cell: ({ symbols }) => number(symbols), number: true },
      { title: "Series", cell: ({ series }) => number(series), number: true },
      { title: "Active", cell: ({ active }) => number(active), number: true, tone: ({ active, series }) => (active < series ? "warn" : "") },
      { title: "Incomplete", cell: ({ incomplete }) => number(incomplete), number: true, tone: ({ incomplete }) => (incomplete ? "bad" : "") },
      { title: "Missing", cell: ({ missing }) => number(missing), number: true, tone: ({ missing }) => (missing ? "bad" : "") },
    ],
  });
  body.append(make("h3", { textContent: "Behind, by interval" }));
  const lag = lagTable(body);
  return {
    overview({ venues }) {
      show(venues);
      lag(venues);
    },
  };
}

// A column for each venue; made again when another one opens.
function lagTable(body) {
  const place = make("div");
  body.append(place);
  let names = "";
  let show = null;
  return (venues) => {
    const wanted = venues.map(({ venue }) => venue).join();
    if (wanted !== names) {
      place.replaceChildren();
      show = table(place, { caption: "The longest lag of each interval", none: "Nothing is recorded.", key: (row) => row.interval, columns: columnsOf(venues) });
      names = wanted;
    }
    const intervals = [...new Set(venues.flatMap(({ lag_seconds }) => Object.keys(lag_seconds)))].sort(byLength);
    show(intervals.map((interval) => ({ interval, lags: venues.map(({ lag_seconds }) => lag_seconds[interval]) })));
  };
}

function columnsOf(venues) {
  const columns = venues.map(({ venue }, at) => ({
    title: venue,
    number: true,
    cell: ({ lags }) => (lags[at] === 0 ? "current" : duration(lags[at])),
    tone: ({ lags }) => (lags[at] ? "warn" : ""),
  }));
  return [{ title: "Interval", cell: ({ interval }) => interval, head: true }, ...columns];
}
