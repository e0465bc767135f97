// The panel of connections: what each carries, and how the last one was lost.

import { counted, duration, number } from "./format.js";
import { table } from "./table.js";

const TONES = { up: "good", taking_over: "warn", down: "bad" };
// Longer than a busy connection is ever silent.
const SILENT_S = 30;
const WORDS = { up: "up", taking_over: "being replaced", down: "down" };

export function open(section, page) {
  page.curl(section, "GET", "/v1/feeds");
  const show = table(section.querySelector(".body"), {
    caption: "Connections to the exchange",
    none: "No connection: nothing is recorded.",
    key: (feed) => `${feed.venue} ${feed.number}`,
    columns: [
      { title: "Venue", cell: (feed) => `${feed.venue} ${feed.number}`, head: true },
      { title: "State", cell: (feed) => WORDS[feed.state] ?? feed.state, tone: (feed) => TONES[feed.state] },
      { title: "Age", cell: (feed) => duration(whole(feed.age_seconds)), number: true },
      { title: "Streams", cell: streams, number: true, tone: (feed) => (feed.streams_carried < feed.streams_wanted ? "warn" : "") },
      { title: "Klines /s", cell: (feed) => number(feed.messages_per_second), number: true },
      { title: "Last data", cell: (feed) => ago(feed.last_data_seconds_ago), number: true, tone: (feed) => ((feed.last_data_seconds_ago ?? feed.age_seconds) < SILENT_S ? "" : "warn") },
      { title: "Dials", cell: (feed) => number(feed.dials), number: true },
      { title: "Lost", cell: (feed) => number(feed.lost), number: true },
      { title: "Replaced", cell: (feed) => number(feed.replaced), number: true },
      { title: "Last loss", cell: lastLoss },
    ],
  });
  return { overview: (overview) => show(overview.feeds) };
}

function streams(feed) {
  return feed.streams_carried === feed.streams_wanted
    ? number(feed.streams_wanted)
    : `${number(feed.streams_carried)} of ${counted(feed.streams_wanted, "stream")}`;
}

function lastLoss({ last_loss: loss }) {
  return loss ? `${loss.reason}, ${ago(loss.seconds_ago)}` : "none";
}

function ago(seconds) {
  return seconds == null ? "–" : seconds < 1 ? "now" : `${duration(whole(seconds))} ago`;
}

// Tenths would change each second.
function whole(seconds) {
  return seconds == null ? null : Math.floor(seconds);
}
