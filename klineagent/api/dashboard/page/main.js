// The page: opens each panel, asks the agent once a second, and hands the answer to all of them.

import * as agent from "./agent.js";
import * as budgets from "./budgets.js";
import * as candles from "./candles.js";
import * as change from "./change.js";
import * as connections from "./connections.js";
import { accessIs, curl } from "./curl.js";
import * as delays from "./delays.js";
import * as header from "./header.js";
import * as heatmap from "./heatmap.js";
import * as jobs from "./jobs.js";
import * as log from "./log.js";
import * as login from "./login.js";
import * as lost from "./lost.js";
import { poll } from "./poll.js";
import * as storage from "./storage.js";
import * as story from "./story.js";
import * as venues from "./venues.js";
import * as view from "./view.js";

/**
 * A panel is a module with `open(section, page)`, called once. It returns what it wants to hear:
 * `overview(o)` with each answer (points, events and losses are all that are kept, the newest
 * last), `viewChanged(view)` with each change of the address, `lost(error, pauseMs)`,
 * `locked()` when the agent asks for a token.
 */
const PANELS = {
  head: header, coverage: heatmap, losses: lost, candles, story,
  delays, venues, connections, budgets, storage, jobs, log, change, login,
};

let access = "";
const page = {
  agent,
  view,
  curl,
  get mayCommand() {
    return access === "command";
  },
  locked: () => tell("locked"),
  announce(text) {
    document.getElementById("announced").textContent = text;
  },
};
const panels = Object.entries(PANELS).map(([id, panel]) => panel.open(document.getElementById(id), page));

function tell(method, ...news) {
  for (const panel of panels) {
    try {
      panel?.[method]?.(...news);
    } catch (error) {
      // One panel's mistake leaves the others current.
      reportError(error);
    }
  }
}

view.follow((now) => tell("viewChanged", now));
tell("viewChanged", view.get());
poll(agent, {
  found(overview) {
    const isFirst = !access;
    access = overview.access;
    accessIs(access);
    tell("overview", overview);
    if (isFirst) view.show(view.get().panel);
  },
  lost: (error, pause) => tell("lost", error, pause),
});
