// The panel of budgets: how much of the exchange's limits is used.

import { make } from "./element.js";
import { duration, number } from "./format.js";
import { pools } from "./header.js";
import { meter, table } from "./table.js";

export function open(section, page) {
  page.curl(section, "GET", "/v1/limits");
  const body = section.querySelector(".body");
  const bars = make("div");
  body.append(bars);
  const kept = new Map();
  const show = table(body, {
    caption: "Limits of each venue",
    none: "No venue is recorded.",
    key: ({ venue }) => venue,
    columns: [
      { title: "Venue", cell: ({ venue }) => venue, head: true },
      { title: "Dials", cell: dials, number: true },
      { title: "Streams per connection", cell: perConnection, number: true },
      { title: "Messages", cell: ({ limits }) => `${number(limits.messages.limit_per_second)} /s`, number: true },
      { title: "Requests", cell: requests },
    ],
  });
  return {
    overview({ venues }) {
      for (const [pool, rest] of pools(venues)) bar(pool).show(rest.used, rest.limit, used(rest));
      show(venues);
    },
  };

  function bar(pool) {
    if (!kept.has(pool)) {
      kept.set(pool, meter(`Request weight, ${pool}`));
      bars.append(kept.get(pool).whole);
    }
    return kept.get(pool);
  }
}

function used({ used: spent, limit, allowed }) {
  return `${number(spent)} of ${number(limit)} this minute (the exchange allows ${number(allowed)})`;
}

function dials({ limits: { connections } }) {
  return `${number(connections.used)} of ${number(connections.limit)} in ${duration(connections.window_seconds)}`;
}

function perConnection({ limits: { streams } }) {
  const each = streams.connections ? Math.ceil(streams.wanted / streams.connections) : 0;
  return `${number(each)} of ${number(streams.limit_per_connection)}`;
}

function requests({ limits: { rest } }) {
  if (rest.standing_down_seconds) return `backs off for ${duration(rest.standing_down_seconds)}`;
  return `${number(rest.requests_under_way)} under way, ${number(rest.requests_waiting)} waiting`;
}
