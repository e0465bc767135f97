// Figures and times as text. Pure.

const DAY_S = 86_400;
const UNITS = [[DAY_S, "d"], [3_600, "h"], [60, "min"]];

/** A number, with as many places as its size needs: "12,345", "12.3", "0.0123". */
export function number(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** "1 candle", "2 candles"; `many` where it is not the word with an s. */
export function counted(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** Seconds as people say them: "8 ms", "1.2 s", "3 min 4 s", "2 d 5 h". */
export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 1) return `${number(Math.max(0.1, seconds * 1_000))} ms`;
  if (seconds < 9.95) return `${Number.isInteger(seconds) ? seconds : seconds.toFixed(1)} s`;
  seconds = Math.round(seconds);
  if (seconds < 60) return `${seconds} s`;
  const [size, unit] = UNITS.find(([each]) => seconds >= each);
  const [smaller, name] = size === DAY_S ? [3_600, "h"] : size === 3_600 ? [60, "min"] : [1, "s"];
  const rest = Math.floor((seconds % size) / smaller);
  return `${number(Math.floor(seconds / size))} ${unit}${rest ? ` ${rest} ${name}` : ""}`;
}

/** In units of 1,024, as settings are: `4G` is "4 GiB". */
export function bytes(count) {
  if (count == null) return "–";
  const power = count < 1_024 ? 0 : Math.min(4, Math.floor(Math.log2(count) / 10));
  return `${number(count / 1_024 ** power)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

/** The time of day in UTC, with the date unless it is today's: "02:05:31". */
export function clock(iso, now = Date.now()) {
  const text = new Date(iso).toISOString();
  const time = text.slice(11, 19);
  return text.slice(0, 10) === new Date(now).toISOString().slice(0, 10) ? time : `${text.slice(0, 10)} ${time}`;
}

/** The same moment where the reader is. */
export function local(iso) {
  return `local: ${new Date(iso).toLocaleString()}`;
}
