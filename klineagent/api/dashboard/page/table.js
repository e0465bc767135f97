// Tables that are kept current: rows have keys, and only what changed is written.

import { make } from "./element.js";
import { clock, local } from "./format.js";

/** Writes `text` only if it is another one; nothing moves, and nothing is read out again. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A moment in UTC, with the local time as its title. */
export function moment(iso) {
  return make("time", { dateTime: iso, title: local(iso), textContent: clock(iso) });
}

/**
 * Makes a table below `parent`. A column is `{ title, cell(row), number, head, tone(row) }`: `cell`
 * returns text or an element that is made anew when its text changes; `head` marks the one that
 * names the row; `tone` is a class. Returns `show(rows)`; a row's `key` is its identity.
 */
export function table(parent, { caption, columns, none, key }) {
  const body = make("tbody");
  const titles = columns.map(({ title, number }) => make("th", { scope: "col", className: number ? "number" : "", textContent: title }));
  const made = make(
    "table", {}, make("caption", { className: "unseen", textContent: caption }),
    make("thead", {}, make("tr", {}, ...titles)), body,
  );
  const nothing = make("p", { className: "quiet", textContent: none });
  parent.append(make("div", { className: "scroll", tabIndex: 0, role: "group", "aria-label": caption }, made), nothing);
  const kept = new Map();
  return function show(rows) {
    made.parentNode.hidden = !rows.length;
    nothing.hidden = rows.length > 0;
    const names = rows.map(key);
    for (const [name, row] of kept) {
      if (names.includes(name)) continue;
      row.remove();
      kept.delete(name);
    }
    rows.forEach((row, at) => {
      let line = kept.get(names[at]);
      if (!line) {
        line = make("tr", {}, ...columns.map(({ head }) => (head ? make("th", { scope: "row" }) : make("td"))));
        kept.set(names[at], line);
      }
      if (body.children[at] !== line) body.insertBefore(line, body.children[at] ?? null);
      columns.forEach((column, place) => fill(line.children[place], column, row));
    });
  };
}

function fill(node, { cell, number, tone }, row) {
  const content = cell(row);
  if (content instanceof Element) {
    if (node.textContent !== content.textContent || node.firstChild?.href !== content.href) node.replaceChildren(content);
  } else write(node, content);
  const name = [number ? "number" : "", tone?.(row) ?? ""].join(" ").trim();
  if (node.className !== name) node.className = name;
}

/** Makes a list of terms; returns `show({ term: text | { text, tone, panel } })`, null hides one. */
export function facts(parent) {
  const list = make("dl", { className: "facts" });
  parent.append(list);
  const kept = new Map();
  return function show(pairs) {
    for (const [term, said] of Object.entries(pairs)) {
      if (!kept.has(term)) kept.set(term, list.appendChild(fact(term, said?.panel)));
      const { value } = kept.get(term);
      value.closest("div").hidden = said == null;
      write(value, said?.text ?? said ?? "");
      if (said?.panel) value.ariaLabel = `${term}: ${said.text}`;
      value.className = said?.tone ?? "";
    }
    for (const [term, { hidden }] of kept) if (!(term in pairs) && !hidden) kept.get(term).hidden = true;
  };
}

function fact(term, panel) {
  const value = panel ? make("a", { href: `?panel=${panel}` }) : make("dd");
  const whole = make("div", {}, make("dt", { textContent: term }), panel ? make("dd", {}, value) : value);
  return Object.assign(whole, { value });
}

/** A `<meter>` that also says its figures. */
export function meter(label) {
  const bar = make("meter", { min: 0, "aria-label": label });
  const text = make("span");
  const whole = make("p", { className: "meter" }, make("span", { textContent: label }), bar, text);
  return {
    whole,
    show(value, most, said) {
      bar.max = most || 1;
      bar.high = 0.85 * bar.max;
      bar.value = value;
      write(text, said);
    },
  };
}
