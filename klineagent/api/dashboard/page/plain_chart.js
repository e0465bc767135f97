// Candles drawn by the page itself, where there is no chart library.

import { paintBands, paintChosen } from "./bands.js";
import { written } from "./interval.js";
import { palette } from "./palette.js";

const AXIS = 64;
const FOOT = 20;
const VOLUME = 0.2;

export class PlainChart {
  constructor(host, { onRange, onHover, onPick }) {
    Object.assign(this, { host, onRange, places: [], bands: [], chosen: null, from: 0, width: 120 });
    this.canvas = document.createElement("canvas");
    host.append(this.canvas);
    this.theme();
    new ResizeObserver(() => this.soon()).observe(host);
    let dragged = null;
    this.canvas.addEventListener("pointerdown", (event) => (dragged = { x: event.offsetX, from: this.from }));
    this.canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) return onHover(this.openAt(event.offsetX));
      if (dragged) this.see(dragged.from - (event.offsetX - dragged.x) / this.step, this.width);
    });
    this.canvas.addEventListener("pointerleave", () => onHover(null));
    this.canvas.addEventListener("click", (event) => {
      const open = this.openAt(event.offsetX);
      if (open !== null && Math.abs(event.offsetX - (dragged?.x ?? event.offsetX)) < 4) onPick(open);
    });
    this.canvas.addEventListener("wheel", (event) => {
      // The wheel scrolls the page until the chart is chosen.
      if (document.activeElement !== host) return;
      event.preventDefault();
      if (event.deltaX) return this.see(this.from + event.deltaX / this.step, this.width);
      const width = Math.max(10, Math.min(1_000, this.width * 1.001 ** event.deltaY));
      this.see(this.from + this.width - width, width);
    }, { passive: false });
  }

  theme() {
    this.colours = palette();
    this.soon();
  }

  show(places, bands, { interval, decimals, at }) {
    const anchor = this.places[Math.max(0, Math.ceil(this.from))]?.open;
    const shift = this.from - Math.max(0, Math.ceil(this.from));
    const follows = this.from + this.width >= this.places.length;
    const behind = this.places.length - this.from;
    Object.assign(this, { places, bands });
    if (decimals !== undefined) Object.assign(this, { decimals, interval });
    if (at !== undefined) this.from = this.indexOf(at) - this.width / 2;
    else if (anchor === undefined) this.from = places.length - this.width + 2;
    else this.from = follows ? places.length - behind : this.indexOf(anchor) + shift;
    this.soon();
  }

  update(place) {
    const follows = this.from + this.width >= this.places.length;
    if (this.places.at(-1)?.open === place.open) this.places.pop();
    else if (follows) this.from += 1;
    this.places.push(place);
    this.soon();
  }

  choose(open) {
    this.chosen = open;
    const index = open === null ? this.from : this.indexOf(open);
    if (index < this.from || index > this.from + this.width) this.from = index - this.width / 2;
    this.soon();
  }

  see(from, width) {
    this.width = width;
    this.from = Math.max(-width / 2, Math.min(this.places.length - width / 2, from));
    this.soon();
    this.onRange(this.from, this.from + width, this.places.length);
  }

  indexOf(open) {
    const index = this.places.findIndex((place) => place.open >= open);
    return index < 0 ? this.places.length : index;
  }

  openAt(x) {
    return this.places[Math.floor(this.from + x / this.step)]?.open ?? null;
  }

  get step() {
    return Math.max(1, this.host.clientWidth - AXIS) / this.width;
  }

  soon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.paint();
    });
  }

  paint() {
    const { clientWidth: width, clientHeight: height } = this.host;
    const { canvas, colours, places, step, from } = this;
    const ratio = devicePixelRatio || 1;
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const brush = canvas.getContext("2d");
    brush.scale(ratio, ratio);
    const [first, end] = [Math.max(0, Math.floor(from)), Math.max(0, Math.ceil(from + this.width))];
    const shown = places.slice(first, end).filter((place) => place.candle);
    const plot = (height - FOOT) * (1 - VOLUME) - 8;
    const x = (index) => (index - from) * step;
    const edges = ({ first, last }) => {
      const [left, right] = [x(this.indexOf(first)), x(this.indexOf(last) + 1)];
      return right < 0 || left > width - AXIS ? null : [Math.max(0, left), Math.min(width - AXIS, right)];
    };
    paintBands(brush, this.bands, edges, plot, colours);
    if (!shown.length) return;
    const low = Math.min(...shown.map(({ candle }) => candle.low));
    const high = Math.max(...shown.map(({ candle }) => candle.high));
    const most = Math.max(...shown.map(({ candle }) => candle.volume)) || 1;
    const y = (price) => 8 + (plot - 16) * (1 - (price - low) / (high - low || 1));
    let index = first;
    for (const { open, candle } of shown) {
      while (places[index].open < open) index++;
      this.candle(brush, candle, x(index), step, y, height - FOOT, (height - FOOT) * VOLUME / most);
    }
    const chosen = this.chosen === null ? null : edges({ first: this.chosen, last: this.chosen });
    if (chosen) paintChosen(brush, chosen, plot, colours);
    this.axes(brush, { low, high, y, x, width, height });
  }

  candle(brush, candle, left, step, y, floor, perVolume) {
    const body = Math.max(1, step * 0.7);
    const x = left + (step - body) / 2;
    brush.fillStyle = brush.strokeStyle = this.colours[candle.close >= candle.first ? "rise" : "fall"];
    brush.fillRect(left + step / 2 - 0.5, y(candle.high), 1, y(candle.low) - y(candle.high));
    const [top, bottom] = [y(Math.max(candle.first, candle.close)), y(Math.min(candle.first, candle.close))];
    if (candle.is_closed) brush.fillRect(x, top, body, Math.max(1, bottom - top));
    else {
      brush.clearRect(x, top, body, bottom - top);
      brush.strokeRect(x, top, body, Math.max(1, bottom - top));
    }
    brush.globalAlpha = 0.5;
    brush.fillRect(x, floor - candle.volume * perVolume, body, candle.volume * perVolume);
    brush.globalAlpha = 1;
  }

  axes(brush, { low, high, y, x, width, height }) {
    brush.clearRect(width - AXIS, 0, AXIS, height);
    brush.clearRect(0, height - FOOT, width, FOOT);
    brush.fillStyle = this.colours.muted;
    brush.font = "11px system-ui, sans-serif";
    brush.textBaseline = "middle";
    for (const part of [0, 0.25, 0.5, 0.75, 1]) {
      const price = low + (high - low) * part;
      brush.fillText(price.toFixed(this.decimals), width - AXIS + 4, y(price));
    }
    const every = Math.ceil(130 / this.step);
    const end = Math.min(this.places.length, this.from + this.width);
    for (let index = Math.max(0, Math.ceil(this.from / every) * every); index < end; index += every) {
      const text = written(this.places[index].open, this.interval);
      if (x(index) < width - AXIS - 100) brush.fillText(text, x(index), height - FOOT / 2);
    }
  }
}
