// The theme's colours, for what is painted on canvases.

const NAMES = ["text", "muted", "line", "ground", "rise", "fall", "good", "bad", "warn", "gone", "mark", "none"];

export function palette() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--chart-${name}`).trim()]));
}

/** Calls back when the theme changes, by the system's choice or the page's. */
export function onTheme(callback) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", callback);
  new MutationObserver(callback).observe(document.documentElement, {
    attributeFilter: ["class", "data-theme"],
  });
}

export function hatch(context, colour, size, slope = 1) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = size;
  const brush = tile.getContext("2d");
  brush.strokeStyle = colour;
  brush.lineWidth = Math.max(1, size / 5);
  for (const shift of [-size, 0, size]) {
    brush.moveTo(shift, slope > 0 ? size : 0);
    brush.lineTo(shift + size, slope > 0 ? 0 : size);
  }
  brush.stroke();
  return context.createPattern(tile, "repeat");
}
