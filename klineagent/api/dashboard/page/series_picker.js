// Chooses a series: a symbol by its name, an interval among those at which the symbol is recorded.

import { AgentError } from "./agent.js";
import { make } from "./element.js";
import { byLength } from "./interval.js";

const SYMBOLS_AGAIN_MS = 60_000;
const NO_SYMBOLS_AGAIN_MS = 5_000;
const FIRST_CHOICES = ["BTCUSDT", "spot:BTCUSDT"];

/** A symbol as the agent writes it: " Spot:btcusdt" is "spot:BTCUSDT". */
export function symbolNamed(text) {
  const [, venue, name] = /^(?:(\w+):)?(.*)$/.exec(text.trim());
  return (venue ? `${venue.toLowerCase()}:` : "") + name.toUpperCase();
}

export class SeriesPicker {
  /** `choose({ symbol })` or `choose({ interval })`: what was picked; `more` stands beside. */
  constructor(page, choose, ...more) {
    Object.assign(this, { page, choose, symbols: [], askedAt: -SYMBOLS_AGAIN_MS });
    this.names = make("datalist", { id: "candle-symbols" });
    this.symbol = make("input", { type: "text", autocomplete: "off", spellcheck: false });
    this.symbol.setAttribute("list", this.names.id);
    this.intervals = make("span", { role: "group", "aria-label": "Interval", className: "intervals" });
    this.element = make("form", { className: "controls" },
      make("label", {}, "Symbol ", this.symbol), this.intervals, this.names, ...more);
    this.element.addEventListener("submit", (event) => event.preventDefault());
    this.symbol.addEventListener("focus", () => this.load());
    // A series that is chosen meanwhile does not overwrite what is being typed.
    this.isTyping = false;
    this.symbol.addEventListener("input", () => (this.isTyping = true));
    this.symbol.addEventListener("blur", () => (this.isTyping = false));
    this.symbol.addEventListener("change", () => {
      this.isTyping = false;
      if (this.symbol.value.trim()) choose({ symbol: symbolNamed(this.symbol.value) });
    });
  }

  /** Shows the series, and the intervals at which its symbol is recorded. */
  show({ symbol, interval }, recorded) {
    if (!this.isTyping) this.symbol.value = symbol;
    const all = [...new Set([interval, ...recorded])].sort(byLength);
    const buttons = [...this.intervals.children];
    // The same buttons stay: the one that was pressed has the keyboard.
    if (all.join() !== buttons.map((each) => each.textContent).join()) {
      this.intervals.replaceChildren(...all.map((each) => make("button", {
        type: "button", onclick: () => this.choose({ interval: each }),
      }, each)));
    }
    for (const button of this.intervals.children) {
      button.setAttribute("aria-pressed", button.textContent === interval);
    }
  }

  /** The symbol to begin with; undefined if none is recorded. */
  async first() {
    await this.load();
    return FIRST_CHOICES.find((each) => this.symbols.includes(each)) ?? this.symbols[0];
  }

  async load() {
    const pause = this.symbols.length ? SYMBOLS_AGAIN_MS : NO_SYMBOLS_AGAIN_MS;
    if (performance.now() - this.askedAt < pause) return;
    this.askedAt = performance.now();
    try {
      this.symbols = (await this.page.agent.get("/symbols")).symbols;
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
    }
    this.names.replaceChildren(...this.symbols.map((each) => make("option", { value: each })));
  }

  /** The intervals at which a symbol is recorded; null if the agent does not tell. */
  async recorded(symbol) {
    try {
      const { series } = await this.page.agent.get("/v1/coverage", { symbol });
      return series.map((each) => each.interval);
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      return null;
    }
  }
}
