"""Script: what the report does beyond reading: find and look closer at a place on the map, filter long tables.

Decides nothing that is read: without it every number is on the page. It loads nothing, stores nothing, and builds text
nodes only, so that no name becomes markup.
"""

from __future__ import annotations

SCRIPT = """"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  document.documentElement.dataset.script = "on";

  for (const tools of document.querySelectorAll("[data-filter]")) {
    const rows = [...$(tools.dataset.filter).querySelectorAll("tbody tr")];
    const said = tools.querySelector("output");
    tools.hidden = false;
    tools.querySelector("input").addEventListener("input", (event) => {
      const words = event.target.value.toLowerCase().split(/\\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      said.textContent = words.length ? shown + " of " + rows.length + " rows" : "";
    });
  }

  const map = $("map");
  if (!map || !$("map-data")) return;
  const places = JSON.parse($("map-data").textContent);
  const whole = map.viewBox.baseVal;
  const full = { x: whole.x, y: whole.y, w: whole.width, h: whole.height };
  const view = { ...full };
  const said = $("map-said");
  const ring = $("map-ring");
  $("map-tools").hidden = false;

  const show = () => {
    map.setAttribute("viewBox", [view.x, view.y, view.w, view.h].map((v) => v.toFixed(2)).join(" "));
    ring.setAttribute("r", (11 * view.w) / full.w);
  };
  const within = (value, low, high) => Math.min(Math.max(value, low), high);
  const move = (x, y) => {
    view.x = within(x, full.x, full.x + full.w - view.w);
    view.y = within(y, full.y, full.y + full.h - view.h);
    show();
  };
  const zoom = (factor, x = view.x + view.w / 2, y = view.y + view.h / 2) => {
    const w = within(view.w * factor, full.w / 40, full.w);
    const ratio = w / view.w;
    view.w = w;
    view.h *= ratio;
    move(x - (x - view.x) * ratio, y - (y - view.y) * ratio);
  };
  const tell = (place) => {
    if (place) {
      ring.setAttribute("cx", place[1]);
      ring.setAttribute("cy", place[2]);
    }
    ring.setAttribute("visibility", place ? "visible" : "hidden");
    said.textContent = place ? place[0] + ": " + place[3] : "";
  };
  const spot = (event) => {
    const box = map.getBoundingClientRect();
    return [view.x + ((event.clientX - box.left) / box.width) * view.w,
            view.y + ((event.clientY - box.top) / box.height) * view.h];
  };
  const nearest = (x, y) => {
    let best = null;
    let least = (14 * view.w / full.w) ** 2;
    for (const place of places) {
      const d = (place[1] - x) ** 2 + (place[2] - y) ** 2;
      if (d < least) [best, least] = [place, d];
    }
    return best;
  };

  let held = null;
  map.addEventListener("pointerdown", (event) => { held = [...spot(event), event.pointerId]; });
  map.addEventListener("pointerup", () => { held = null; });
  map.addEventListener("pointerleave", () => { held = null; });
  map.addEventListener("pointermove", (event) => {
    const [x, y] = spot(event);
    if (held && view.w < full.w) move(view.x + held[0] - x, view.y + held[1] - y);
    else tell(nearest(x, y));
  });
  map.addEventListener("dblclick", (event) => zoom(0.5, ...spot(event)));
  const steps = { in: () => zoom(0.6), out: () => zoom(1 / 0.6), all: () => zoom(40),
    west: () => move(view.x - view.w / 4, view.y), east: () => move(view.x + view.w / 4, view.y),
    north: () => move(view.x, view.y - view.h / 4), south: () => move(view.x, view.y + view.h / 4) };
  for (const button of $("map-tools").querySelectorAll("button")) {
    button.addEventListener("click", () => steps[button.dataset.step]());
  }
  $("map-find").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    const found = wanted && (places.find((place) => place[0].toLowerCase() === wanted)
      || places.find((place) => place[0].toLowerCase().includes(wanted)));
    tell(found || null);
    if (wanted && !found) said.textContent = "no place of that name";
    if (found && view.w < full.w) move(found[1] - view.w / 2, found[2] - view.h / 2);
  });
})();
"""
