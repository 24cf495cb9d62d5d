"use strict";
// Draws the charts of the page; everything is in it, so that nothing is fetched.
const data = JSON.parse(document.getElementById("data").textContent);

async function draw(place, spec) {
  const options = { mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, config: data.config };
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const drawn = await vegaEmbed(place, spec, { ...options, tooltip: { theme: dark ? "dark" : "light" } });
  return drawn;
}

// -- The map: a Mercator projection that buttons, keys and the pointer move --------------------

const TILE = Math.PI / 180;
const mercator = (y) => Math.log(Math.tan(Math.PI / 4 + (Math.max(-80, Math.min(80, y)) * TILE) / 2)) / TILE;
const latitude = (m) => (Math.atan(Math.exp(m * TILE)) * 2 - Math.PI / 2) / TILE;

function makeMap(place) {
  const map = data.map;
  const chosen = document.getElementById("map-layer");
  const about = document.getElementById("map-about");
  let shown = null, camera = null, turn = Promise.resolve();

  const size = () => {
    const width = Math.max(240, place.clientWidth);
    return [width, Math.round(Math.max(260, Math.min(560, width * 0.62)))];
  };
  const everything = () => {
    const places = map.points.length ? map.points : map.layers[0].cells;
    const xs = places.map((p) => p[0]), ys = places.map((p) => mercator(p[1]));
    const low = (all) => all.reduce((a, b) => Math.min(a, b), Infinity);
    const high = (all) => all.reduce((a, b) => Math.max(a, b), -Infinity);
    const [width, height] = size();
    const across = Math.max(0.5, high(xs) - low(xs)), up = Math.max(0.5, high(ys) - low(ys));
    return {
      x: (high(xs) + low(xs)) / 2, m: (high(ys) + low(ys)) / 2,
      perDegree: 0.9 * Math.min(width / across, height / up),
    };
  };
  const rows = (layer) => layer.cells
    ? layer.cells.map(([x, y, n]) => ({ x, y, rows: n }))
    : map.points.map(([x, y], i) => ({ x, y, value: layer.values[i] })).filter((p) => p.value !== null);
  const outline = (topology, feature, mark) => ({
    data: { values: topology, format: { type: "topojson", feature } },
    mark: { type: "geoshape", clip: true, aria: false, stroke: "currentColor", tooltip: null, ...mark },
  });

  const render = async () => {
    const layer = map.layers[Number(chosen.value)];
    const [width, height] = size();
    const top = {
      mark: layer.mark, data: { values: rows(layer) },
      encoding: {
        longitude: { field: "x", type: "quantitative" },
        latitude: { field: "y", type: "quantitative" }, ...layer.encoding,
      },
    };
    const spec = {
      width, height, autosize: { type: "pad" }, padding: 0,
      description: "Map of the rows by " + layer.name + ". " + layer.about,
      projection: {
        type: "mercator", center: [camera.x, latitude(camera.m)],
        scale: camera.perDegree / TILE, translate: [width / 2, height / 2],
      },
      layer: [
        outline(map.countries, "countries", { fill: "currentColor", fillOpacity: 0.06, strokeOpacity: 0.3, strokeWidth: 0.6 }),
        outline(map.states, "states", { filled: false, strokeOpacity: 0.3, strokeWidth: 0.6 }),
        top,
      ],
    };
    about.textContent = layer.about;
    const drawn = document.createElement("div");
    const view = await draw(drawn, spec);
    if (shown) shown.finalize();
    place.replaceChildren(drawn);
    shown = view;
  };
  const redraw = () => (turn = turn.then(render));
  const zoom = (by) => { camera.perDegree *= by; return redraw(); };
  const move = (right, down) => {
    camera.x += right / camera.perDegree;
    camera.m -= down / camera.perDegree;
    return redraw();
  };
  const reset = () => { camera = everything(); return redraw(); };

  chosen.addEventListener("change", redraw);
  document.getElementById("map-in").addEventListener("click", () => zoom(1.6));
  document.getElementById("map-out").addEventListener("click", () => zoom(1 / 1.6));
  document.getElementById("map-all").addEventListener("click", reset);
  place.addEventListener("keydown", (event) => {
    const keys = {
      "+": () => zoom(1.6), "=": () => zoom(1.6), "-": () => zoom(1 / 1.6), "0": reset,
      ArrowLeft: () => move(-80, 0), ArrowRight: () => move(80, 0),
      ArrowUp: () => move(0, -80), ArrowDown: () => move(0, 80),
    };
    if (keys[event.key] && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  let begun = null;
  place.addEventListener("pointerdown", (event) => { begun = [event.clientX, event.clientY]; });
  window.addEventListener("pointerup", (event) => {
    if (!begun) return;
    const [right, down] = [begun[0] - event.clientX, begun[1] - event.clientY];
    begun = null;
    if (Math.abs(right) + Math.abs(down) > 5) move(right, down);
  });
  let width = place.clientWidth;
  window.addEventListener("resize", () => {
    if (place.clientWidth === width) return;
    width = place.clientWidth;
    reset();
  });
  window.mapDrawn = () => turn; // for whoever waits for it
  return reset();
}

async function drawAll() {
  for (const [key, spec] of Object.entries(data.charts)) {
    const place = document.getElementById("chart-" + key);
    await draw(place, spec).catch((error) => {
      console.error(error);
      place.textContent = "This chart cannot be drawn; its table is beside it.";
    });
  }
  const map = document.getElementById("chart-map");
  if (map) await makeMap(map);
  document.documentElement.dataset.drawn = "all";
}
drawAll();
