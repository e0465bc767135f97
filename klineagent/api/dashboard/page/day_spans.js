// The ranges of one day of a series: what is missing, what does not exist, what was lost and fetched.

import { AgentError } from "./agent.js";
import { make } from "./element.js";
import { counted } from "./format.js";
import { DAY_MS, lengthOf, shifted, spanWritten } from "./interval.js";
import { lossesOf } from "./losses.js";

/** Lists them in `place`; each is a button that chooses its first candle. */
export async function showSpans(place, page, { symbol, interval }, date) {
  const title = make("h3", {}, `${symbol} ${interval} on ${date}`);
  place.replaceChildren(title);
  let told;
  try {
    told = (await page.agent.get("/v1/coverage", { symbol, interval })).series[0];
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    place.append(make("p", {}, error.message));
    return;
  }
  if (place.firstChild !== title) return;
  const first = Date.parse(date);
  const here = (span) => Date.parse(span.to) + lengthOf(interval) > first && Date.parse(span.from) < first + DAY_MS;
  const healed = lossesOf(symbol, interval).filter((loss) => loss.healed);
  const found = [
    ...(told?.missing.spans ?? []).map((span) => [span, `missing: ${span.how}${span.error && `; ${span.error}`}`]),
    ...(told?.absent.spans ?? []).map((span) => [span, `does not exist: ${span.reason}`]),
    ...healed.map((loss) => [loss, `lost and fetched: ${loss.how}`]),
  ].filter(([span]) => here(span));
  const more = (told?.missing.more_spans ?? 0) + (told?.absent.more_spans ?? 0);
  place.append(make("ul", {}, ...found.map(([span, text]) => make("li", {}, button(span, text)))));
  const none = "No range of this day is missing, absent or was lost since the agent started.";
  if (!found.length && !more) place.append(make("p", {}, told ? none : "The series is not recorded."));
  if (more) place.append(make("p", {}, `${counted(more, "older range")} of this series not listed.`));
  page.announce(`${title.textContent}: ${counted(found.length, "range")}`);

  function button(span, text) {
    const chosen = firstWithin(span);
    return make("button", {
      type: "button",
      onclick: () => page.view.set({ symbol, interval, candle: new Date(chosen).toISOString() }),
    }, `Why ${spanWritten(span, interval)}: ${text}`);
  }

  // A range may have begun the day before.
  function firstWithin(span) {
    const from = Date.parse(span.from);
    const candles = interval.endsWith("M") ? 0 : Math.ceil((first - from) / lengthOf(interval));
    return candles > 0 && candles < span.candles ? shifted(interval, from, candles) : from;
  }
}
