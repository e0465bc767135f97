// The panel of lost candles: which, how, and how long it took until they were there again.

import { make } from "./element.js";
import { counted, duration, number } from "./format.js";
import { spanWritten } from "./interval.js";
import { moment, table } from "./table.js";

const MOST_SHOWN = 200;
// Nobody listens to more announcements.
const SOONEST_MS = 10_000;

export function open(section, page) {
  page.curl(section, "GET", "/v1/overview", { since: 0 });
  const body = section.querySelector(".body");
  const summary = make("p", { className: "quiet" });
  body.append(summary);
  const nameOf = (series) => `${series.symbol} ${series.interval}`;
  const toCandle = (series, candle, text) => make("a", {
    href: `?${new URLSearchParams({ symbol: series.symbol, interval: series.interval, candle, panel: "story" })}`,
    textContent: text,
  });
  const show = table(body, {
    caption: "Candles lost since the agent started",
    none: "No candle was lost since the agent started.",
    key: (loss) => `${loss.symbol} ${loss.venue} ${loss.interval} ${loss.number}`,
    columns: [
      { title: "Candles", cell: (loss) => make("div", {}, toCandle(loss, loss.from, nameOf(loss)), make("div", { className: "quiet" }, spanWritten(loss, loss.interval))), head: true },
      { title: "Found", cell: (loss) => moment(loss.found) },
      { title: "How", cell: (loss) => loss.how },
      { title: "Now", cell: outcome, tone: (loss) => (loss.healed ? "good" : loss.absent ? "" : "bad") },
    ],
  });
  body.append(make("h3", { textContent: "Behind" }));
  const showBehind = table(body, {
    caption: "Series that are behind, the worst first",
    none: "Every series is complete.",
    key: (series) => `${series.symbol} ${series.venue} ${series.interval}`,
    columns: [
      { title: "Series", cell: (series) => toCandle(series, series.missing.spans[0]?.from ?? "", nameOf(series)), head: true },
      { title: "Missing", cell: (series) => number(series.missing.candles), number: true, tone: () => "bad" },
      { title: "Behind", cell: (series) => duration(Math.round(series.lag_seconds)), number: true },
      { title: "How", cell: (series) => why(series.missing.spans[0]) },
    ],
  });
  let told = null;
  let announcedAt = -SOONEST_MS;
  return {
    overview({ losses, behind }) {
      const newest = losses.at(-1)?.number ?? 0;
      if (told !== newest) {
        const candles = losses.reduce((sum, loss) => sum + loss.candles, 0);
        const cut = losses.length < MOST_SHOWN ? "" : "The newest: ";
        const text = `${cut}${counted(candles, "candle")} in ${counted(losses.length, "range")}, ${counted(losses.filter((loss) => loss.healed).length, "range")} fetched again`;
        summary.hidden = !losses.length;
        summary.textContent = text;
        show([...losses].sort(newestFirst).slice(0, MOST_SHOWN));
        if (told !== null && losses.length && performance.now() - announcedAt > SOONEST_MS) {
          page.announce(`Lost candles: ${text}`);
          announcedAt = performance.now();
        }
        told = newest;
      }
      showBehind(behind);
    },
  };
}

// The agent numbers a loss anew when it heals, so numbers alone are no order.
function newestFirst(one, other) {
  return Date.parse(other.found) - Date.parse(one.found) || other.number - one.number;
}

function outcome(loss) {
  if (loss.absent) return `absent: ${loss.absent}`;
  if (!loss.healed) return "missing";
  const seconds = (Date.parse(loss.healed) - Date.parse(loss.found)) / 1_000;
  return seconds < 1 ? "fetched within a second" : `fetched after ${duration(seconds)}`;
}

function why(span) {
  return span ? [span.how, span.error].filter(Boolean).join("; ") : "";
}
