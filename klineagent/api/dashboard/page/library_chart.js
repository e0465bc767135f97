// Candles drawn by TradingView's Lightweight Charts, if the page was served with it.

import { paintBands, paintChosen } from "./bands.js";
import { DAY_MS, lengthOf } from "./interval.js";
import { palette } from "./palette.js";

/** Resolves to the library, or to null where there is none. */
export async function chartLibrary() {
  const address = document.querySelector('meta[name="charts"]')?.content;
  if (!address) return null;
  if (!globalThis.LightweightCharts) {
    await new Promise((done) => {
      const script = document.createElement("script");
      script.onload = script.onerror = done;
      script.src = address;
      document.head.append(script);
    });
  }
  return globalThis.LightweightCharts ?? null;
}

export class LibraryChart {
  constructor(library, host, { onRange, onHover, onPick }) {
    this.places = [];
    this.bands = [];
    this.chosen = null;
    this.chart = library.createChart(host, {
      autoSize: true,
      localization: { locale: "en" },
      // Its logo would need a style that the page's policy forbids; the footer names the library.
      layout: { attributionLogo: false },
    });
    this.series = this.chart.addSeries(library.CandlestickSeries);
    const plain = { priceFormat: { type: "volume" }, priceLineVisible: false, lastValueVisible: false };
    this.volume = this.chart.addSeries(library.HistogramSeries, plain, 1);
    this.chart.panes()[0].setStretchFactor(4);
    this.chart.panes()[1].setStretchFactor(1);
    this.series.attachPrimitive(this.primitive());
    this.theme();
    // The wheel scrolls the page until the chart is chosen.
    for (const [event, mouseWheel] of [["focus", true], ["blur", false]]) {
      host.addEventListener(event, () => this.wheel(mouseWheel));
    }
    this.wheel(false);
    const scale = this.chart.timeScale();
    scale.subscribeVisibleLogicalRangeChange((range) => {
      if (range && !this.drawing) onRange(range.from, range.to, this.places.length);
    });
    this.chart.subscribeCrosshairMove(({ time }) => onHover(time === undefined ? null : time * 1_000));
    this.chart.subscribeClick(({ time }) => time !== undefined && onPick(time * 1_000));
  }

  wheel(mouseWheel) {
    this.chart.applyOptions({ handleScale: { mouseWheel }, handleScroll: { mouseWheel } });
  }

  theme() {
    const colours = (this.colours = palette());
    this.chart.applyOptions({
      layout: {
        background: { color: "transparent" }, textColor: colours.text, panes: { separatorColor: colours.line },
      },
      grid: { vertLines: { color: colours.line }, horzLines: { color: colours.line } },
      crosshair: { mode: 0 },
      // A finger that goes up or down scrolls the page.
      handleScroll: { vertTouchDrag: false },
      rightPriceScale: { borderColor: colours.line },
      timeScale: { borderColor: colours.line, rightOffset: 3 },
    });
    this.series.applyOptions({
      upColor: colours.rise, borderUpColor: colours.rise, wickUpColor: colours.rise,
      downColor: colours.fall, borderDownColor: colours.fall, wickDownColor: colours.fall,
    });
    if (this.places.length) this.show(this.places, this.bands, {});
  }

  // Draws all places. What was in sight stays there; with `at` that place is in the middle.
  show(places, bands, { interval, decimals, at }) {
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    const anchor = range && this.places[Math.max(0, Math.ceil(range.from))];
    const behind = range ? this.places.length - range.to : null;
    const follows = behind !== null && behind <= 1;
    const before = this.places.length;
    Object.assign(this, { places, bands });
    if (decimals !== undefined) {
      this.series.applyOptions({ priceFormat: { type: "price", precision: decimals, minMove: 10 ** -decimals } });
      const timeScale = { timeVisible: lengthOf(interval) < DAY_MS, secondsVisible: interval.endsWith("s") };
      this.chart.applyOptions({ timeScale });
    }
    this.drawing = true;
    this.series.setData(places.map((place) => this.bar(place)));
    this.volume.setData(places.map((place) => this.column(place)));
    const width = range && before ? range.to - range.from : Math.min(120, scale.width() / 6);
    if (at !== undefined) this.see(this.indexOf(at) + width / 2, width);
    else if (!before) this.see(places.length + 2, width);
    else if (follows) this.see(places.length - behind, width);
    else if (anchor) this.see(this.indexOf(anchor.open) + (range.to - Math.max(0, Math.ceil(range.from))), width);
    this.drawing = false;
  }

  see(to, width) {
    this.chart.timeScale().setVisibleLogicalRange({ from: to - width, to });
  }

  // Draws the newest place again, or one after it.
  update(place) {
    const last = this.places.at(-1);
    if (last?.open === place.open) this.places.pop();
    this.places.push(place);
    this.series.update(this.bar(place));
    this.volume.update(this.column(place));
  }

  choose(open) {
    this.chosen = open;
    this.redraw?.();
    const range = this.chart.timeScale().getVisibleLogicalRange();
    const index = open === null ? -1 : this.indexOf(open);
    if (index < 0 || !range || (index >= range.from && index <= range.to)) return;
    const width = range.to - range.from;
    this.see(index + width / 2, width);
  }

  indexOf(open) {
    let [low, high] = [0, this.places.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.places[middle].open < open) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  bar({ open, candle }) {
    const time = open / 1_000;
    if (candle === null) return { time };
    const bar = { time, open: candle.first, high: candle.high, low: candle.low, close: candle.close };
    // A forming candle is hollow.
    return candle.is_closed ? bar : { ...bar, color: "transparent" };
  }

  column({ open, candle }) {
    const time = open / 1_000;
    if (candle === null) return { time };
    return { time, value: candle.volume, color: this.colours[candle.close >= candle.first ? "rise" : "fall"] };
  }

  primitive() {
    const draw = (target) => target.useMediaCoordinateSpace(({ context, mediaSize }) => {
      const half = this.chart.timeScale().options().barSpacing / 2;
      const x = (open) => this.chart.timeScale().logicalToCoordinate(this.indexOf(open));
      const edges = ({ first, last }) => {
        const [left, right] = [x(first) - half, x(last) + half];
        const isSeen = right > 0 && left < mediaSize.width;
        return isSeen ? [Math.max(0, left), Math.min(mediaSize.width, right)] : null;
      };
      paintBands(context, this.bands, edges, mediaSize.height, this.colours);
      const at = this.chosen === null ? null : edges({ first: this.chosen, last: this.chosen });
      if (at) paintChosen(context, at, mediaSize.height, this.colours);
    });
    const view = { zOrder: () => "bottom", renderer: () => ({ draw }) };
    return { paneViews: () => [view], attached: ({ requestUpdate }) => (this.redraw = requestUpdate) };
  }
}
