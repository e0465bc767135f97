// The page's head: whether the agent records as it should, and if not, every reason.

import { make } from "./element.js";
import { bytes, clock, counted, duration, local, number } from "./format.js";
import { sparkline } from "./line_chart.js";
import { facts, write } from "./table.js";

const part = (id) => document.getElementById(id);

export function open(section, page) {
  const body = section.querySelector(".body");
  const show = facts(body);
  const rates = sparkline("Klines received per second, last half hour");
  const rated = make("div", {}, make("div", { className: "quiet", textContent: "Received, last half hour" }), rates.whole);
  body.append(rated);
  page.curl(section, "GET", "/v1/overview");
  theme(part("theme"));
  const links = navigation(section.querySelector("nav"));
  let wasReady = null;
  let lostAt = null;
  let answeredAt = null;

  return {
    overview(overview) {
      answeredAt = Date.now();
      if (lostAt !== null) {
        lostAt = null;
        part("banner").hidden = true;
        document.body.classList.remove("stale");
        page.announce("The agent answers again.");
      }
      readiness(overview);
      show(figures(overview));
      rated.hidden = overview.points.length < 2;
      rates.show(overview.points.map((point) => point.received_per_second));
      write(part("version"), `klineagent ${overview.version}`);
      write(part("access"), overview.access === "read" ? "reading only" : "");
      if (overview.ready !== wasReady && wasReady !== null) {
        page.announce(overview.ready ? "The agent is ready." : `The agent is not ready: ${reasonsOf(overview).join("; ")}`);
      }
      links();
      wasReady = overview.ready;
      document.title = `${overview.ready ? "" : "not ready · "}${overview.totals.missing ? `${number(overview.totals.missing)} missing · ` : ""}klineagent`;
    },
    // It answers: with a question.
    locked() {
      part("banner").hidden = true;
      document.body.classList.remove("stale");
      write(part("state"), "asks for a token");
      part("state").className = "";
      document.title = "klineagent";
    },
    lost(error, pause) {
      const now = Date.now();
      lostAt ??= answeredAt ?? now;
      const age = answeredAt === null ? "" : ` What is shown is ${duration((now - answeredAt) / 1_000)} old.`;
      const banner = part("banner");
      banner.hidden = false;
      // Read out once; what changes each second is only shown.
      write(banner.firstChild ?? banner.appendChild(make("strong")), `${sentence(error)} since ${clock(lostAt)} UTC.`);
      const rest = banner.children[1] ?? banner.appendChild(make("span", { "aria-hidden": "true" }));
      write(rest, ` Asking again in ${duration(pause / 1_000)}.${age}`);
      banner.title = local(lostAt);
      document.body.classList.add("stale");
      write(part("state"), "not answering");
      part("state").className = "bad";
      document.title = "not answering · klineagent";
    },
  };

  function readiness(overview) {
    const reasons = reasonsOf(overview);
    write(part("state"), overview.ready ? "ready" : `not ready: ${counted(reasons.length, "reason")}`);
    part("state").className = overview.ready ? "good" : "bad";
    const list = part("reasons");
    list.hidden = !reasons.length;
    if (list.textContent !== reasons.join("")) list.replaceChildren(...reasons.map((text) => make("li", { textContent: text })));
  }
}

// Links to the panels that are shown; each is a view of its own.
function navigation(nav) {
  const links = [...document.querySelectorAll("main > section")].map((section) => {
    const link = make("a", { href: `?panel=${section.id}`, textContent: section.querySelector("h2").textContent });
    return { section, link };
  });
  nav.append(...links.map(({ link }) => link));
  return () => {
    for (const { section, link } of links) {
      link.hidden = section.hidden;
      write(link, section.querySelector("h2").textContent);
    }
  };
}

function sentence(error) {
  return error.status ? `The agent has answered with errors (${error.message})` : "The agent has not answered";
}

function reasonsOf(overview) {
  return overview.reasons.map(({ part: of, venue, reason }) => `${[of, venue].filter(Boolean).join(" of ")}: ${reason}`);
}

function figures({ totals, venues, feeds, storage, at }) {
  const up = feeds.filter((feed) => feed.state !== "down").length;
  const { spool } = storage;
  const shown = {
    "Time (UTC)": clock(at),
    "Behind": { text: duration(totals.behind_seconds), tone: totals.behind_seconds ? "warn" : "good", panel: "losses" },
    "Missing": { text: counted(totals.missing, "candle"), tone: totals.missing ? "bad" : "good", panel: "coverage" },
    "Series": `${number(totals.active)} of ${number(totals.series)} active`,
    "Received": `${number(totals.received_per_second)} /s`,
    "Stored": `${number(totals.stored_per_second)} /s`,
    "Connections": { text: `${up} of ${feeds.length} up`, tone: up < feeds.length ? "bad" : "", panel: "connections" },
  };
  for (const [pool, { used, limit }] of pools(venues)) {
    shown[`Weight, ${pool}`] = { text: `${number(used)} of ${number(limit)}`, tone: used > 0.9 * limit ? "warn" : "", panel: "budgets" };
  }
  shown.Database = {
    text: storage.takes_rows ? "takes rows" : `takes no rows: ${storage.error ?? "not asked yet"}`,
    tone: storage.takes_rows ? "" : "bad",
    panel: "storage",
  };
  shown.Spool = spool && {
    text: `${counted(spool.rows, "row")}, ${bytes(spool.bytes)} of ${bytes(spool.limit_bytes)}`,
    tone: spool.rows ? "warn" : "",
    panel: "storage",
  };
  shown["Event loop p99"] = totals.loop_lag_ms == null ? null : `${number(totals.loop_lag_ms)} ms`;
  return shown;
}

/** The weight pools by name; venues that share one say the same of it. */
export function pools(venues) {
  return new Map(venues.map(({ limits }) => [limits.rest.pool, limits.rest]));
}

const THEME = "klineagent-theme";

function theme(button) {
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const say = () => write(button, isDark() ? "Light theme" : "Dark theme");
  const kept = localStorage.getItem(THEME);
  if (kept) root.dataset.theme = kept;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem(THEME, root.dataset.theme);
    say();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", say);
  say();
}
