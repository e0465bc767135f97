// What a change would cost, and the second click that carries it out.

import { make } from "./element.js";
import { bytes, counted, duration, number } from "./format.js";
import { facts } from "./table.js";

const NOT_LISTED = "Nothing that is wanted has this name at these intervals. A pattern is removed by its own text, as listed below.";

/**
 * Returns `ask(verb, change, isListed)`, which shows the bill of a change below `parent`. `send(change,
 * isDryRun)` asks the agent; `done(outcome)` hears of what was carried out. `isListed`: what is to
 * be removed is wanted as it stands, even if no stream is. `ask.withdraw()` takes the offer back.
 */
export function bill(parent, send, done) {
  const title = make("h3", { tabIndex: -1 });
  const shown = make("div");
  const error = make("p", { className: "bad", role: "alert" });
  const yes = make("button", { type: "button", className: "act" });
  const no = make("button", { type: "button" });
  const whole = make("div", { className: "bill", role: "group", "aria-label": "Bill", hidden: true }, title, shown, error, make("p", {}, yes, " ", no));
  parent.append(whole);
  let asked = 0;
  let offered = null;
  let from = null;

  async function ask(verb, change, isListed = false) {
    const mine = ++asked;
    from = document.activeElement;
    offered = null;
    yes.hidden = true;
    no.textContent = "Cancel";
    error.textContent = "";
    shown.replaceChildren();
    title.textContent = "Asking …";
    whole.hidden = false;
    try {
      const outcome = await send(change, true);
      if (mine !== asked) return;
      offered = { verb, change };
      title.textContent = `${verb}: ${counted(verb === "Add" ? outcome.added : outcome.removed, "stream")}`;
      facts(shown)(items(outcome, verb));
      const isNothing = !outcome.added && !outcome.removed;
      yes.textContent = `${verb} now`;
      // A pattern is wanted for what will be listed, too, and what is wanted without a stream can go.
      yes.hidden = isNothing && !(verb === "Add" ? change.add.some(({ match }) => match) : isListed);
      if (isNothing && verb === "Remove" && !isListed) shown.append(make("p", { className: "warn" }, NOT_LISTED));
      (yes.hidden ? title : yes).focus();
    } catch (failure) {
      if (mine === asked) refuse(failure);
    }
  }

  function refuse(failure) {
    title.textContent = "Refused";
    no.textContent = "Close";
    error.textContent = failure.message;
    yes.hidden = true;
    title.focus();
  }

  ask.withdraw = () => {
    asked++;
    offered = null;
    whole.hidden = true;
  };
  no.addEventListener("click", () => {
    ask.withdraw();
    from?.focus();
  });
  yes.addEventListener("click", async () => {
    if (!offered) return;
    const { change, verb } = offered;
    offered = null;
    yes.hidden = true;
    try {
      const outcome = await send(change, false);
      title.textContent = `${verb === "Add" ? "Added" : "Removed"}: ${counted(outcome.added || outcome.removed, "stream")}`;
      no.textContent = "Close";
      title.focus();
      done(outcome);
    } catch (failure) {
      refuse(failure);
    }
  });
  return ask;
}

function items({ added, removed, added_streams, removed_streams, wanted, symbols, forecast, unmatched }, verb) {
  const named = (streams, count) => `${streams.slice(0, 6).join(", ")}${count > 6 ? `, and ${number(count - 6)} more` : ""}`;
  return {
    "Adds": added ? named(added_streams, added) : null,
    "Removes": removed ? named(removed_streams, removed) : null,
    "Then recorded": `${counted(wanted, "stream")} of ${counted(symbols, "symbol")}`,
    "Connections": `${number(forecast.feeds)}, of them ${number(forecast.new_feeds)} new`,
    "Subscribed in": verb === "Add" ? duration(forecast.subscribe_seconds) : null,
    "History": verb !== "Add" ? null : forecast.history_candles
      ? `${counted(forecast.history_candles, "candle")}: weight ${number(forecast.history_weight)}, ${forecast.history_minutes ? duration(forecast.history_minutes * 60) : "a few seconds"} of the whole budget`
      : "none",
    "A day, all streams": `${counted(forecast.rows_per_day, "row")}, ${bytes(forecast.bytes_per_day)}`,
    "Matches nothing now": unmatched.length ? { text: unmatched.map(({ name, quote, contract }) => [name, quote, contract].filter(Boolean).join(" ")).join(", "), tone: "warn" } : null,
  };
}
