// What the page keeps of all overviews since it was opened: bounded, the newest last.

// Half an hour at one point in 5 s, as the agent keeps them.
const MOST_POINTS = 360;
const MOST_EVENTS = 300;
const MOST_LOSSES = 500;
// The agent tells of so many losses at once.
const MOST_TOLD = 200;

export const NOTHING = { points: [], events: [], losses: [] };

/** `overview` with the points, events and losses of `before`, those that it replaces left out. */
export function merged(before, overview) {
  return {
    ...overview,
    points: [...before.points, ...overview.points].slice(-MOST_POINTS),
    events: [...before.events, ...overview.events].slice(-MOST_EVENTS),
    losses: mergedLosses(before.losses, overview.losses),
  };
}

// A loss that grew or healed comes again under a new number, and covers what was told before.
function mergedLosses(before, news) {
  if (!news.length) return before;
  const covers = (loss, old) => sameSeries(loss, old) && loss.from <= old.to && old.from <= loss.to;
  // Of a full answer some may have been cut off: what was kept may be outdated.
  const kept = news.length < MOST_TOLD ? before : [];
  return news.reduce((all, loss) => [...all.filter((old) => !covers(loss, old)), loss], kept).slice(-MOST_LOSSES);
}

function sameSeries(one, other) {
  return one.symbol === other.symbol && one.venue === other.venue && one.interval === other.interval;
}
