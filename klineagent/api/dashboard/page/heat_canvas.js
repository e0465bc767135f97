// The picture of coverage: rows of series, columns of days. Only what is in view is painted, on a
// canvas that stays in place while an empty field of the whole size is scrolled below it.

import { DAYS } from "./coverage_days.js";
import { DAY_MS } from "./interval.js";
import { hatch, palette } from "./palette.js";

const ROW = 20;
const HEAD = 22;
const LEAST_CELL = 8;
const LETTER = 7.3;

export class HeatCanvas {
  constructor(scroller, field, canvas) {
    Object.assign(this, { scroller, field, canvas, rows: [], days: 0, first: 0, cursor: null });
    this.brush = canvas.getContext("2d");
    // Whoever looks at the newest days goes on doing so when the window's size changes.
    this.atEnd = true;
    scroller.addEventListener("scroll", () => {
      this.atEnd = scroller.scrollLeft + scroller.clientWidth >= scroller.scrollWidth - 1;
      this.soon();
    });
    new ResizeObserver(() => this.fit()).observe(scroller);
  }

  // `first` is the first day, in milliseconds.
  show(rows, first, days) {
    if (days !== this.days || first !== this.first) this.atEnd = true;
    Object.assign(this, { rows, first, days });
    this.fit();
  }

  fit() {
    this.field.style.height = `${HEAD + ROW * this.rows.length}px`;
    const { clientWidth: width, clientHeight: height } = this.scroller;
    if (!width || !this.days) return;
    const longest = this.rows.reduce((most, row) => Math.max(most, row.name.length), 8);
    this.label = Math.min(longest * LETTER + 24, Math.round(width * 0.4));
    this.cell = Math.max(LEAST_CELL, (width - this.label) / this.days);
    this.field.style.width = `${Math.floor(this.label + this.cell * this.days)}px`;
    if (this.atEnd) this.scroller.scrollLeft = this.scroller.scrollWidth;
    this.ratio = devicePixelRatio || 1;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = width * this.ratio;
    this.canvas.height = height * this.ratio;
    this.colours = palette();
    this.tiles = Object.fromEntries(Object.keys(DAYS).map((letter) => [letter, this.tile(letter)]));
    this.soon();
  }

  soon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.paint();
    });
  }

  paint() {
    const { brush, colours, scroller, rows, cell, label, cursor } = this;
    if (!this.tiles) return;
    const { clientWidth: width, clientHeight: height, scrollTop, scrollLeft } = scroller;
    brush.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    brush.clearRect(0, 0, width, height);
    brush.textBaseline = "middle";
    const last = Math.min(rows.length, Math.ceil((scrollTop + height - HEAD) / ROW));
    const from = Math.floor(scrollLeft / cell);
    const to = Math.min(this.days, Math.ceil((scrollLeft + width - label) / cell));
    const left = (day) => label + day * cell - scrollLeft;
    for (let at = Math.floor(scrollTop / ROW); at < last; at++) {
      const top = HEAD + at * ROW - scrollTop;
      for (let day = from; day < to; day++) {
        const tile = this.tiles[rows[at].days[day]];
        if (tile) brush.drawImage(tile, left(day), top, cell, ROW);
      }
      if (cursor?.row === at) this.frameCell(left(cursor.day), top);
    }
    brush.fillStyle = colours.ground;
    brush.fillRect(0, 0, label, height);
    brush.fillRect(0, 0, width, HEAD);
    for (let at = Math.floor(scrollTop / ROW); at < last; at++) this.name(at, HEAD + at * ROW - scrollTop);
    brush.fillStyle = colours.ground;
    brush.fillRect(0, 0, label, HEAD);
    this.dates(from, to, left);
  }

  frameCell(left, top) {
    this.brush.strokeStyle = this.colours.text;
    this.brush.lineWidth = 2;
    this.brush.strokeRect(left + 1, top + 1, this.cell - 2, ROW - 2);
  }

  name(at, top) {
    const { brush, colours, rows, cursor } = this;
    const row = rows[at];
    brush.font = `${cursor?.row === at ? "bold " : ""}12px ui-monospace, monospace`;
    brush.fillStyle = row.inner ? colours.muted : colours.text;
    const sign = row.group ? (rows[at + 1]?.inner ? "▾ " : "▸ ") : "";
    brush.fillText(sign + (row.inner ? `    ${row.series[0].interval}` : row.name), 4, top + ROW / 2, this.label - 8);
  }

  dates(from, to, left) {
    const { brush, colours } = this;
    brush.font = "11px system-ui, sans-serif";
    brush.fillStyle = colours.muted;
    brush.textAlign = "right";
    const step = Math.ceil(44 / this.cell);
    for (let day = from; day < to; day++) {
      if ((this.days - 1 - day) % step || left(day + 1) < this.label + 36) continue;
      const text = new Date(this.first + day * DAY_MS).toISOString().slice(5, 10);
      brush.fillText(text, left(day + 1) - 1, HEAD / 2);
    }
    brush.textAlign = "left";
  }

  // One cell of each kind, by colour and shape.
  tile(letter) {
    const { cell, ratio, colours } = this;
    const tile = document.createElement("canvas");
    tile.width = Math.ceil(cell * ratio);
    tile.height = ROW * ratio;
    const brush = tile.getContext("2d");
    brush.scale(ratio, ratio);
    paintDay(brush, letter, cell, ROW, colours);
    return tile;
  }

  // The cell at a point of the scroller: `day` is null on a name.
  at({ x, y }) {
    const row = Math.floor((y - HEAD + this.scroller.scrollTop) / ROW);
    if (y < HEAD || row >= this.rows.length) return null;
    const day = Math.floor((x - this.label + this.scroller.scrollLeft) / this.cell);
    return { row, day: x < this.label ? null : Math.min(day, this.days - 1) };
  }

  // Brings the cursor into view.
  reveal() {
    const { scroller, cell, label, cursor } = this;
    const [top, left] = [cursor.row * ROW, cursor.day * cell];
    const [bottom, right] = [top + ROW + HEAD - scroller.clientHeight, left + cell + label - scroller.clientWidth];
    scroller.scrollTop = Math.min(top, Math.max(bottom, scroller.scrollTop));
    scroller.scrollLeft = Math.min(left, Math.max(right, scroller.scrollLeft));
    this.soon();
  }

  get rowsInView() {
    return Math.max(1, Math.floor((this.scroller.clientHeight - HEAD) / ROW) - 1);
  }
}

const FILL = { c: "good", h: "good", i: "good", a: "good", f: "warn", g: "bad" };

export function paintDay(brush, letter, width, height, colours) {
  const [x, y, w, h] = [0.5, 1, width - 1, height - 2];
  const [centre, middle, size] = [width / 2, height / 2, Math.min(width, height) / 2 - 2];
  if (letter === "-") {
    brush.fillStyle = colours.line;
    brush.fillRect(x, middle - 0.5, w, 1);
    return;
  }
  brush.fillStyle = colours[FILL[letter]];
  brush.fillRect(x, y, w, h);
  brush.strokeStyle = brush.fillStyle = colours.ground;
  brush.lineWidth = 1.5;
  brush.beginPath();
  if (letter === "f") {
    brush.fillStyle = hatch(brush, colours.ground, 6);
    brush.fillRect(x, y, w, h);
  } else if (letter === "g") {
    brush.lineWidth = 2;
    brush.moveTo(centre - size, middle - size);
    brush.lineTo(centre + size, middle + size);
    brush.moveTo(centre + size, middle - size);
    brush.lineTo(centre - size, middle + size);
  } else if (letter === "h") {
    brush.moveTo(centre - size / 2, middle);
    brush.lineTo(centre + size / 2, middle);
    brush.moveTo(centre, middle - size / 2);
    brush.lineTo(centre, middle + size / 2);
  } else if (letter === "a") {
    brush.arc(centre, middle, Math.max(1.5, size / 2), 0, 7);
    brush.fill();
    return;
  } else if (letter === "i") {
    brush.moveTo(centre - size / 2, height * 0.66);
    brush.lineTo(centre + size / 2, height * 0.66);
  }
  brush.stroke();
}
