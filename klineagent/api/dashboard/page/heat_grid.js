// The grid of coverage as people use it: a picture for the eye, a row and a cell for screen readers,
// a cursor for the keyboard.

import { DAYS, worstOf } from "./coverage_days.js";
import { make } from "./element.js";
import { HeatCanvas } from "./heat_canvas.js";
import { DAY_MS, dayOf } from "./interval.js";
import { onTheme } from "./palette.js";

export class HeatGrid {
  /** `choose(series, date)`: a day was opened; `toggle(symbol)`: a symbol's row was. */
  constructor({ choose, toggle }) {
    Object.assign(this, { choose, toggle });
    const canvas = make("canvas", { "aria-hidden": "true" });
    this.spoken = make("div", { className: "unseen", role: "row" });
    const field = make("div", { className: "heat-field", role: "rowgroup" }, this.spoken, canvas);
    this.grid = make("div", {
      className: "heat", role: "grid", tabIndex: 0, "aria-label": "Coverage by series and day",
    }, field);
    this.tip = make("p", { className: "heat-tip", hidden: true, "aria-hidden": "true" });
    this.element = make("div", { className: "heat-frame" }, this.grid, this.tip);
    this.heat = new HeatCanvas(this.grid, field, canvas);
    this.grid.addEventListener("click", (event) => this.clicked(event));
    this.grid.addEventListener("pointermove", (event) => this.hovered(event));
    this.grid.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.grid.addEventListener("keydown", (event) => this.pressed(event));
    onTheme(() => this.heat.fit());
  }

  /** Shows rows of `coverage_days.js`; `first` is the first day, in milliseconds. */
  show(rows, first, days) {
    const before = this.heat.cursor && { name: this.heat.rows[this.heat.cursor.row]?.name, date: this.dateOf(this.heat.cursor.day) };
    this.heat.show(rows, first, days);
    this.grid.setAttribute("aria-rowcount", rows.length);
    this.grid.setAttribute("aria-colcount", days + 1);
    // The cursor stays on its series and its day, wherever they are now.
    const row = rows.findIndex((each) => each.name === before?.name);
    const day = before ? (Date.parse(before.date) - first) / DAY_MS : days - 1;
    if (rows.length) this.point({ row: within(row, rows.length - 1), day: within(day, days - 1) });
    else this.spoken.replaceChildren();
  }

  // Puts the cursor on a cell, and says which one it is.
  point(at) {
    this.heat.cursor = at;
    const { row, day } = at;
    const { rows } = this.heat;
    const each = rows[row];
    const id = `heat-${row}-${day}`;
    const expanded = each.group ? { "aria-expanded": Boolean(rows[row + 1]?.inner) } : {};
    this.spoken.setAttribute("aria-rowindex", row + 1);
    this.spoken.replaceChildren(
      make("span", { role: "rowheader", "aria-colindex": 1, ...expanded }, each.name),
      make("span", { role: "gridcell", "aria-colindex": day + 2, "aria-selected": "true", id }, this.said(at)));
    this.grid.setAttribute("aria-activedescendant", id);
  }

  move(at) {
    this.point(at);
    this.heat.reveal();
  }

  said({ row, day }) {
    const each = this.heat.rows[row];
    const letter = each.days[day];
    const name = each.group && letter !== "-" ? `${each.name} ${worstOf(each, day).interval}` : each.name;
    return `${name}, ${this.dateOf(day)}: ${DAYS[letter]}`;
  }

  dateOf(day) {
    return dayOf(this.heat.first + day * DAY_MS);
  }

  opened({ row, day }) {
    this.choose(worstOf(this.heat.rows[row], day), this.dateOf(day));
  }

  toggled(row) {
    if (this.heat.rows[row].group) this.toggle(this.heat.rows[row].symbol);
  }

  clicked(event) {
    const at = this.heat.at(this.spotOf(event));
    if (at === null) return;
    const isName = at.day === null;
    this.move({ row: at.row, day: isName ? this.heat.cursor.day : at.day });
    if (isName && this.heat.rows[at.row].group) this.toggled(at.row);
    else this.opened(this.heat.cursor);
  }

  hovered(event) {
    const spot = this.spotOf(event);
    const at = this.heat.at(spot);
    this.tip.hidden = at === null || at.day === null;
    if (this.tip.hidden) return;
    this.tip.textContent = this.said(at);
    this.tip.style.top = `${spot.y + 18}px`;
    this.tip.style.left = `${Math.max(0, Math.min(spot.x, this.grid.clientWidth - this.tip.offsetWidth))}px`;
  }

  pressed(event) {
    if (!this.heat.rows.length || event.altKey || event.metaKey) return;
    const { row, day } = this.heat.cursor;
    const [bottom, right] = [this.heat.rows.length - 1, this.heat.days - 1];
    const to = {
      ArrowUp: [row - 1, day],
      ArrowDown: [row + 1, day],
      ArrowLeft: [row, day - 1],
      ArrowRight: [row, day + 1],
      PageUp: [row - this.heat.rowsInView, day],
      PageDown: [row + this.heat.rowsInView, day],
      Home: [event.ctrlKey ? 0 : row, 0],
      End: [event.ctrlKey ? bottom : row, right],
    }[event.key];
    if (to) this.move({ row: within(to[0], bottom), day: within(to[1], right) });
    else if (event.key === "Enter") this.opened(this.heat.cursor);
    else if (event.key === " ") this.toggled(row);
    else return;
    event.preventDefault();
  }

  // A pointer's place in the grid, whatever lies below it.
  spotOf({ clientX, clientY }) {
    const box = this.grid.getBoundingClientRect();
    return { x: clientX - box.left - this.grid.clientLeft, y: clientY - box.top - this.grid.clientTop };
  }
}

function within(at, most) {
  return Math.max(0, Math.min(most, at));
}
