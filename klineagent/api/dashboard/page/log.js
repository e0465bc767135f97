// The panel of the log: the last events, the newest first.

import { make } from "./element.js";
import { moment } from "./table.js";

const MOST_SHOWN = 100;
const LEVELS = ["debug", "info", "warning", "error", "critical"];

export function open(section, page) {
  page.curl(section, "GET", "/v1/overview", { since: 0 });
  const list = make("ol", { className: "log", tabIndex: 0, "aria-label": "Log events, the newest first" });
  const select = make("select", { id: "log-level" }, ...[["info", "all"], ["warning", "warnings and errors"], ["error", "errors"]].map(
    ([value, textContent]) => make("option", { value, textContent }),
  ));
  const none = make("p", { className: "quiet", textContent: "No such event." });
  section.querySelector(".body").append(make("p", {}, make("label", { for: "log-level", textContent: "Level " }), select), list, none);
  let events = [];
  let newest = 0;
  const wanted = (event) => LEVELS.indexOf(event.level) >= LEVELS.indexOf(select.value);
  select.addEventListener("change", () => {
    list.replaceChildren();
    add(events);
  });

  function add(more) {
    list.prepend(...more.filter(wanted).slice(-MOST_SHOWN).map(line).reverse());
    while (list.children.length > MOST_SHOWN) list.lastChild.remove();
    none.hidden = list.children.length > 0;
    list.hidden = !none.hidden;
  }

  return {
    overview(overview) {
      const isAnew = (overview.events.at(-1)?.number ?? 0) < newest;
      if (isAnew) list.replaceChildren();
      events = overview.events;
      add(isAnew ? events : events.filter(({ number }) => number > newest));
      newest = events.at(-1)?.number ?? 0;
    },
  };
}

function line({ at, level, event, text }) {
  const tone = { warning: "warn", error: "bad", critical: "bad" }[level] ?? "quiet";
  return make(
    "li", {}, moment(at), " ", make("span", { className: tone, textContent: level }), " ",
    make("strong", { textContent: event }), " ", make("span", { textContent: text }),
  );
}
