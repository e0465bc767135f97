// The panel of delays: how long after their close candles were received, stored and readable.

import { make } from "./element.js";
import { counted, duration } from "./format.js";
import { byLength } from "./interval.js";
import { delayChart, put, svg } from "./line_chart.js";
import { table, write } from "./table.js";

const STAGES = ["received", "stored", "readable"];
// Of a clock's speed; one answer that is late does not count.
const LEAST_MEASURED_MS = 5_000;
const BARS = { width: 120, height: 22 };

export function open(section, page) {
  page.curl(section, "GET", "/v1/overview");
  const body = section.querySelector(".body");
  const chart = delayChart("99 % of the candles that closed were there within, last half hour", STAGES);
  const legend = STAGES.map((stage) => make("span", { className: `legend ${stage}`, textContent: stage }));
  body.append(
    make("p", { className: "quiet" }, "99 % of what closed, over time: ", ...legend), chart.whole,
    make("h3", { textContent: "Since the start, by interval" }),
  );
  const speed = make("p", { className: "quiet", hidden: true });
  body.append(speed);
  let began = null;
  const cells = new Map();
  const show = table(body, {
    caption: "Delays after the close by interval: half and 99 % of the candles",
    none: "No candle has closed yet.",
    key: (row) => row.name,
    columns: [
      { title: "Interval", cell: (row) => row.name, head: true },
      ...STAGES.map((stage) => ({ title: `${stage}: p50 · p99`, cell: (row) => cellOf(row.name, stage, row[stage]) })),
    ],
  });
  return {
    overview({ at, points, delays, venues }) {
      began ??= { at: Date.parse(at), here: performance.now() };
      const here = performance.now() - began.here;
      const times = Math.round((Date.parse(at) - began.at) / here);
      if (here > LEAST_MEASURED_MS) {
        speed.hidden = times < 2;
        write(speed, `The exchange's clock runs ${times} times as fast as ours; delays are in its time.`);
      }
      chart.whole.toggleAttribute("hidden", points.length < 2);
      chart.show(
        points.map((point) => Date.parse(point.at)),
        Object.fromEntries(STAGES.map((stage) => [stage, points.map((point) => point[`${stage}_p99_seconds`])])),
      );
      show(rowsOf(delays, venues.length > 1));
    },
  };

  // The cell stays; its bars and figures change.
  function cellOf(name, stage, delay) {
    const id = `${name} ${stage}`;
    if (!cells.has(id)) {
      const bars = svg("path");
      const text = make("span");
      const drawing = svg("svg", { class: `bars ${stage}`, viewBox: `0 0 ${BARS.width} ${BARS.height}`, "aria-hidden": "true" }, bars);
      cells.set(id, { whole: make("div", { className: "delay" }, drawing, text), bars, text });
    }
    const { whole, bars, text } = cells.get(id);
    write(text, delay ? `${duration(delay.p50_seconds)} · ${duration(delay.p99_seconds)}` : "–");
    put(bars, "d", delay ? histogram(delay.counts) : "");
    whole.title = delay ? classes(delay) : "";
    return whole;
  }
}

function rowsOf(delays, haveVenues) {
  const rows = new Map();
  for (const delay of [...delays].sort((one, other) => byLength(one.interval, other.interval))) {
    const name = haveVenues ? `${delay.interval} ${delay.venue}` : delay.interval;
    if (!rows.has(name)) rows.set(name, { name });
    rows.get(name)[delay.stage] = delay;
  }
  return [...rows.values()];
}

function histogram(counts) {
  const most = Math.max(...counts, 1);
  const step = BARS.width / counts.length;
  return counts.map((count, at) => {
    if (!count) return "";
    const height = Math.max(1.5, (count / most) * BARS.height);
    return `M${(at * step + 0.5).toFixed(1)} ${BARS.height}v${(-height).toFixed(1)}h${(step - 1).toFixed(1)}v${height.toFixed(1)}z`;
  }).join("");
}

function classes({ counts, bounds_seconds: bounds }) {
  return counts.map((count, at) => count && `${counted(count, "candle")} ${at < bounds.length ? `up to ${duration(bounds[at])}` : `over ${duration(bounds.at(-1))}`}`)
    .filter(Boolean).join("\n");
}
