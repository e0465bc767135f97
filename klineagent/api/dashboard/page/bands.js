// What is marked on a chart of candles, as bands over ranges of time: gaps, and candles that did not
// come by the stream. Painted alike on the library's chart and the plain one.

import { hatch } from "./palette.js";

/** The mark of a candle by its source; a gap fills the height, other marks are a strip below. */
export const BANDS = {
  missing: { text: "missing, being fetched", colour: "warn", gap: 1 },
  absent: { text: "does not exist, with a proof", colour: "muted", gap: -1 },
  healed: { text: "lost and fetched", colour: "mark", letter: "H" },
  fetched: { text: "fetched over REST: history, or while no agent ran", colour: "muted", letter: "F" },
  imported: { text: "imported from files", colour: "good", letter: "I" },
  corrected: { text: "corrected", colour: "bad", letter: "C" },
};

const MARKS = { archive: "imported", repair: "corrected", rest: "fetched" };

export function markOf(candle, losses) {
  const mark = MARKS[candle.source];
  const healed = mark === "fetched" && losses.some(
    (loss) => loss.healed && Date.parse(loss.from) <= candle.open && candle.open <= Date.parse(loss.to));
  return healed ? "healed" : mark;
}

export function bandsOf(kept, losses) {
  const gaps = [
    ...[...kept.missing, ...kept.holes()].map((span) => ({ ...span, kind: "missing" })),
    ...kept.absent.map((span) => ({ ...span, kind: "absent" })),
  ];
  const runs = [];
  let run = null;
  for (const candle of kept.candles) {
    const kind = markOf(candle, losses);
    if (run === null || kind !== run.kind) runs.push((run = { kind, first: candle.open }));
    run.last = candle.open;
  }
  return [...gaps, ...runs.filter((each) => each.kind !== undefined)];
}

/** `edges(band)` are the band's left and right in pixels, or null out of sight. */
export function paintBands(brush, bands, edges, height, colours) {
  brush.font = "11px system-ui, sans-serif";
  brush.textBaseline = "top";
  for (const band of bands) {
    const at = edges(band);
    if (at === null) continue;
    const [left, right] = at;
    const { colour, letter, gap } = BANDS[band.kind];
    brush.fillStyle = brush.strokeStyle = colours[colour];
    if (!gap) {
      brush.fillRect(left, height - 4, Math.max(1, right - left), 4);
      if (right - left > 9) brush.fillText(letter, left + 1, height - 17);
      continue;
    }
    brush.fillStyle = hatch(brush, colours[colour], 8, gap);
    brush.fillRect(left, 0, right - left, height);
    brush.strokeRect(left, 0.5, right - left, height - 1);
    brush.fillStyle = colours.text;
    const text = `${band.candles.toLocaleString("en")} ${band.kind}`;
    if (brush.measureText(text).width < right - left - 6) brush.fillText(text, left + 3, 4);
  }
}

export function paintChosen(brush, [left, right], height, colours) {
  brush.strokeStyle = colours.text;
  brush.setLineDash([3, 2]);
  brush.strokeRect(left, 1, right - left, height - 2);
  brush.setLineDash([]);
}
