// Small charts as SVG: a line without axes, and lines over time on a logarithmic scale.

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Sets an attribute only if it changes: the browser then paints nothing. */
export function put(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** A line through `values` from 0 to the largest; `whole` is the element, `show(values)` draws. */
export function sparkline(label, width = 240, height = 28) {
  const line = svg("path", { class: "line received" });
  const whole = svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, line);
  return {
    whole,
    show(values) {
      const most = Math.max(...values, 1e-9);
      put(line, "d", path(values.map((value, at) => [(at / Math.max(1, values.length - 1)) * width, height - 1 - (value / most) * (height - 2)])));
    },
  };
}

const LEFT = 50;
const BOTTOM = 18;

/**
 * Lines over time, seconds on a logarithmic scale from 1 ms to 1,000 s. `show(times, lines)` takes
 * times in milliseconds, ascending, and for each name as many values, null where there is none.
 */
export function delayChart(label, names, height = 180) {
  const lines = Object.fromEntries(names.map((name) => [name, svg("path", { class: `line ${name}` })]));
  const marks = svg("g", { class: "marks" });
  const whole = svg("svg", { class: "chart", height, role: "img", "aria-label": label }, marks, ...Object.values(lines));
  const depth = height - BOTTOM - 6;
  let width = 0;
  let drawn = "";
  return {
    whole,
    show(times, values) {
      width = whole.clientWidth;
      const all = Object.values(values).flat().filter((value) => value > 0);
      const low = Math.floor(Math.log10(Math.max(1e-3, Math.min(...all, 1))));
      const high = Math.max(low + 1, Math.ceil(Math.log10(Math.min(1e3, Math.max(...all, 1e-3)))));
      const [first, last] = [times[0] ?? 0, times.at(-1) ?? 1];
      const x = (time) => LEFT + ((time - first) / Math.max(1, last - first)) * (width - LEFT - 4);
      const y = (seconds) => 6 + depth * (1 - (Math.log10(Math.max(10 ** low, seconds)) - low) / (high - low));
      for (const name of names) {
        put(lines[name], "d", path(times.map((time, at) => values[name][at] == null ? null : [x(time), y(values[name][at])])));
      }
      const wanted = [width, low, high, first, last].join();
      if (wanted !== drawn) marks.replaceChildren(...scale(low, high, y), ...clockMarks(first, last, x));
      drawn = wanted;
    },
  };

  function scale(low, high, y) {
    return Array.from({ length: high - low + 1 }, (_, at) => 10 ** (low + at)).flatMap((seconds) => [
      svg("path", { d: `M${LEFT} ${y(seconds).toFixed(1)}H${width - 4}` }),
      svg("text", { x: LEFT - 6, y: y(seconds) + 4, class: "end" }, seconds < 1 ? `${Math.round(seconds * 1_000)} ms` : `${seconds} s`),
    ]);
  }

  function clockMarks(first, last, x) {
    const step = [1, 2, 5, 10].find((minutes) => (last - first) / (minutes * 60_000) <= width / 90)
      ?? Math.ceil((last - first) / 60_000 / Math.max(1, width / 90));
    const marked = [];
    for (let time = Math.ceil(first / (step * 60_000)) * step * 60_000; x(time) < width - 18 && time <= last; time += step * 60_000) {
      marked.push(svg("text", { x: x(time), y: height - 4, class: "middle" }, new Date(time).toISOString().slice(11, 16)));
    }
    return marked;
  }
}

// One point is a dot; null breaks the line.
function path(points) {
  return points.map((point, at) => {
    if (point === null) return "";
    const place = `${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    return points[at - 1] ? `L${place}` : `M${place}h0`;
  }).join("");
}
