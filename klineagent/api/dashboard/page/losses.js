// Candles that were lost since the agent started, as the newest overview tells.

let losses = [];

/** Panels share the overviews, so each of them may call it. */
export function learn(overview) {
  losses = overview.losses;
}

export function lossesOf(symbol, interval) {
  return losses.filter((loss) => loss.symbol === symbol && loss.interval === interval);
}
