// One request for the overview a second, while the tab is seen; one at a time.

import { NOTHING, merged } from "./news.js";

const EVERY_MS = 1_000;
// A slow agent is not asked again at once.
const LEAST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
const PROBE = { wait: 10_000, probe: true };

/**
 * Asks for ever. `found(overview)` gets each answer with all that is kept; `lost(error, pauseMs)`
 * each failure.
 */
export async function poll(agent, { found, lost }) {
  let kept = null;
  let failures = 0;
  for (;;) {
    await seen();
    const begun = performance.now();
    try {
      let overview = await agent.get("/v1/overview", { since: kept?.next }, PROBE);
      // Another agent, or the same after a restart, counts anew.
      if (kept && (failures || overview.started !== kept.started || overview.next < kept.next)) {
        overview = await agent.get("/v1/overview", {}, PROBE);
        kept = null;
      }
      failures = 0;
      kept = merged(kept ?? NOTHING, overview);
    } catch (error) {
      const pause = Math.min(EVERY_MS * 1.5 ** failures++, LONGEST_PAUSE_MS);
      agent.isThere(false);
      lost(error, pause);
      await passed(pause);
      continue;
    }
    agent.isThere(true);
    found(kept);
    await passed(Math.max(LEAST_PAUSE_MS, EVERY_MS - (performance.now() - begun)));
  }
}

function passed(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function seen() {
  if (document.visibilityState === "visible") return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true });
  }).then(seen);
}
