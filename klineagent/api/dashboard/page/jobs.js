// The panel of jobs: how far imports are, the buttons that stop them, and a form that starts one.

import { make } from "./element.js";
import { bytes, counted, duration, number } from "./format.js";
import { table, write } from "./table.js";

const PATH = "/v1/jobs";
const OVER = ["done", "done_with_holes", "failed", "cancelled"];
const TONES = { done: "good", done_with_holes: "warn", failed: "bad", waiting: "warn", paused: "warn" };

export function open(section, page) {
  page.curl(section, "GET", PATH);
  const body = section.querySelector(".body");
  const error = make("p", { className: "bad", role: "alert" });
  // The job whose cancelling was asked for once; the second click does it.
  let sure = "";
  const show = table(body, {
    caption: "Jobs",
    none: "No jobs.",
    key: (job) => job.id,
    columns: [
      { title: "Import of", cell: what, head: true },
      { title: "State", cell: state, tone: (job) => TONES[job.state] ?? "" },
      { title: "Progress", cell: progress },
      { title: "Left", cell: ({ progress: { eta_seconds: left } }) => (left == null ? "" : duration(left)), number: true },
      { title: "Change", cell: buttons },
    ],
  });
  const start = form(send);
  body.append(error, start);

  async function send(method, path, content) {
    write(error, "");
    page.curl(section, method, path, {}, content);
    try {
      const answer = await page.agent.send(method, path, content);
      const job = answer.job ?? answer;
      page.announce(`${what(job)}: ${state(job)}.`);
      return job;
    } catch (failure) {
      write(error, failure.message);
    }
  }

  function buttons(job) {
    if (!page.mayCommand || OVER.includes(job.state)) return "";
    const path = `${PATH}/${job.id}`;
    const rest = job.state === "paused" ? "Resume" : "Pause";
    const name = what(job);
    const other = make("button", { type: "button", textContent: rest, "aria-label": `${rest} ${name}` });
    other.addEventListener("click", () => send("POST", `${path}/${rest.toLowerCase()}`));
    const isSure = sure === job.id;
    const cancel = make("button", { type: "button", textContent: isSure ? "Cancel it now" : "Cancel …", "aria-label": `${isSure ? "Cancel now:" : "Cancel …"} ${name}` });
    cancel.addEventListener("click", () => {
      if (sure === job.id) {
        sure = "";
        send("DELETE", path);
        return;
      }
      sure = job.id;
      // The same button, so that the keyboard stays there.
      cancel.textContent = "Cancel it now";
      cancel.ariaLabel = `Cancel now: ${name}`;
    });
    return make("span", {}, other, " ", cancel);
  }

  return {
    overview({ jobs }) {
      section.hidden = !jobs.length && !page.mayCommand;
      start.hidden = !page.mayCommand;
      show(jobs);
    },
    viewChanged: ({ symbol, interval }) => start.propose(symbol, interval),
  };
}

/** "BTCUSDT ETHUSDT 1m from 2024-01-01". */
export function what({ symbols, intervals, from, to }) {
  const names = `${symbols.slice(0, 3).join(" ")}${symbols.length > 3 ? ` and ${number(symbols.length - 3)} more` : ""}`;
  return `${names} ${intervals.join(",")}${from ? ` from ${from.slice(0, 10)}` : ""}${to ? ` to ${to.slice(0, 10)}` : ""}`;
}

function state({ state, reason }) {
  return `${state.replaceAll("_", " ")}${reason ? `: ${reason}` : ""}`;
}

function progress(job) {
  const now = job.progress;
  const parts = [
    now.files_total ? `${number(now.files)} of ${counted(now.files_total, "file")}, ${bytes(now.bytes)} of ${bytes(now.bytes_total)}` : "",
    now.candles + now.exchange_candles ? counted(now.candles + now.exchange_candles, "candle") : "",
    now.refused ? `${counted(now.refused, "file")} refused` : "",
    now.missing ? `${counted(now.missing, "candle")} missing` : "",
  ];
  const text = parts.filter(Boolean).join("; ");
  if (OVER.includes(job.state) || !now.files_total) return text;
  const bar = make("progress", { max: now.bytes_total || 1, value: now.bytes, "aria-label": `Progress of ${what(job)}` });
  return make("span", {}, bar, text);
}

// One series from a day on; more is for the command line.
function form(send) {
  const symbol = make("input", { id: "import-symbol", autocomplete: "off", spellcheck: false, required: true });
  const interval = make("input", { id: "import-interval", autocomplete: "off", spellcheck: false, required: true, size: 4, value: "1m" });
  const from = make("input", { id: "import-from", type: "date" });
  const label = (input, textContent) => make("label", { for: input.id, textContent });
  const whole = make(
    "form", { className: "import" }, make("h3", { textContent: "Import the past" }),
    label(symbol, "Symbol or pattern "), symbol, " ", label(interval, "at "), interval, " ", label(from, "from "), from, " ",
    make("button", { type: "submit", className: "act", textContent: "Import" }),
    make("p", { className: "quiet", textContent: "From the exchange's archive, then from the exchange, up to now; without a day, all that there is. Recording goes first." }),
  );
  whole.addEventListener("submit", async (event) => {
    event.preventDefault();
    const names = symbol.value.split(/[\s,;]+/).filter(Boolean);
    const intervals = interval.value.split(/[\s,;]+/).filter(Boolean);
    await send("POST", PATH, { kind: "import", symbols: names, intervals, ...(from.value && { from: from.value }) });
  });
  let proposed = "";
  // What is looked at is proposed, unless something was typed.
  whole.propose = (name, at) => {
    if (!name || symbol.value !== proposed) return;
    symbol.value = proposed = name;
    if (at) interval.value = at;
  };
  return whole;
}
