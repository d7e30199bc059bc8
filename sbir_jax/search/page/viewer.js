// One photo, large: what made its score, where it lies.

import { copy, placeOf } from "/chosen.js";
import { ask, form, problem, say } from "/server.js";
import * as sheet from "/sheet.js";

const $ = (id) => document.getElementById(id);
let hits = [], current = -1, explaining = null, looking = null, matched = [];
let state = () => ({}); // what is asked for now: {words, like, imagined, raw}

// Args: asked: tells the state; like, inside: called for more like a photo, or for a folder.
export function start(asked, like, inside) {
  state = asked;
  $("similar").addEventListener("click", () => { $("view").close(); like(hits[current]); });
  $("inside").addEventListener("click", () => { $("view").close(); inside(hits[current].folder); });
}

export function standing(hit) {
  if (hit.above === null) return hit.score.toFixed(3);
  return (hit.above < 0 ? "−" : "+") + Math.abs(hit.above).toFixed(1);
}

export function enlarge(found, i) {
  if (!found[i]) return;
  [hits, current] = [found, i];
  const hit = hits[i];
  explaining?.abort();
  looking?.abort();
  $("view-name").textContent = hit.name;
  const parts = [`photo ${i + 1} of ${hits.length}`, `cosine ${hit.score.toFixed(3)}`];
  if (hit.above !== null) parts.unshift(`stands out by ${standing(hit)}`);
  if (hit.copies) parts.push(hit.copies === 1 ? "1 copy not shown" : `${hit.copies} copies not shown`);
  $("view-score").textContent = parts.join(", ");
  $("view-place").textContent = placeOf(hit);
  $("big").src = hit.photo;
  $("big").alt = hit.name;
  $("original").href = hit.photo;
  $("previous").disabled = i === 0;
  $("next").disabled = i === hits.length - 1;
  $("copy-path").hidden = !hit.path;
  $("inside").hidden = !hit.folder;
  $("explain").hidden = Boolean(state().like || state().imagined) || sheet.isBlank();
  showWhy(false);
  showMasks(false);
  $("masks").hidden = !state().words;
  if (!$("view").open) $("view").showModal();
  if (state().words) findMasks();
}

export function step(by) {
  enlarge(hits, current + by);
}

function showWhy(on) {
  $("why").hidden = !on;
  $("big").hidden = on;
  $("explain").setAttribute("aria-pressed", on);
  $("lines").replaceChildren();
  say($("view-status"), "");
}

function showMasks(on, found = { words: [] }) {
  $("big").src = on ? found.photo : hits[current].photo;
  $("masks").setAttribute("aria-pressed", on);
  const chips = found.words.map(({ word, colour, share }) => {
    const chip = document.createElement("li"), dot = document.createElement("span");
    dot.style.background = colour;
    chip.append(dot, share ? word : `${word}: nowhere`);
    return chip;
  });
  $("words").replaceChildren(...(on ? chips : []));
}

// Where the words are that were typed; those between commas have a colour each.
async function findMasks() {
  if ($("masks").getAttribute("aria-pressed") === "true") {
    say($("view-status"), "");
    return showMasks(false);
  }
  const mine = looking = new AbortController();
  const body = JSON.stringify({ id: hits[current].id, text: state().words });
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body };
  say($("view-status"), "Looking for the words ...", "busy");
  try {
    const found = await ask("/api/masks", () => options, mine.signal);
    if (mine.signal.aborted) return;
    if (!$("why").hidden) showWhy(false);
    showMasks(true, found);
    say($("view-status"), "The place that fits the words best, whether or not the thing is there.");
  } catch (error) {
    if (mine.signal.aborted) return;
    say($("view-status"), problem(error), "bad");
  }
}

async function explain() {
  if (!$("why").hidden) return showWhy(false);
  looking?.abort();
  const mine = explaining = new AbortController();
  const fields = { id: hits[current].id, prepare: !state().raw };
  say($("view-status"), "Looking at both ...", "busy");
  try {
    const drawing = await sheet.picture();
    const found = await ask("/api/explain", () => form(fields, drawing, "drawing.png"), mine.signal);
    if (mine.signal.aborted) return;
    $("why-sketch").src = found.sketch;
    $("why-photo").src = found.photo;
    await Promise.all([$("why-sketch").decode(), $("why-photo").decode()]);
    showMasks(false);
    showWhy(true);
    matched = found.matches;
    join();
    say($("view-status"), found.tokens
      ? `Places of one colour answer each other; both together score ${found.score.toFixed(2)} of 1.`
      : "Warm places made the drawing's score. Lines join places that look alike to the model.");
  } catch (error) {
    if (mine.signal.aborted) return;
    say($("view-status"), problem(error), "bad");
  }
}

function join() {
  const lines = $("lines"), frame = $("why").getBoundingClientRect();
  lines.replaceChildren();
  if ($("why").hidden) return;
  lines.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  const at = (image, [x, y]) => {
    const box = image.getBoundingClientRect();
    return [box.x - frame.x + x * box.width, box.y - frame.y + y * box.height];
  };
  const add = (name, values, stroke = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
    node.style.stroke = stroke; // an attribute "style" is against the page's own policy
    lines.append(node);
  };
  for (const match of matched) {
    const [x1, y1] = at($("why-sketch"), match.sketch), [x2, y2] = at($("why-photo"), match.photo);
    add("line", { class: "under", x1, y1, x2, y2 });
    add("line", { class: "over", x1, y1, x2, y2 }, match.colour);
    add("circle", { cx: x1, cy: y1, r: 5 }, match.colour);
    add("circle", { cx: x2, cy: y2, r: 5 }, match.colour);
  }
}

$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("explain").addEventListener("click", explain);
$("masks").addEventListener("click", findMasks);
$("copy-path").addEventListener("click", () => copy(hits[current].path, $("view-status"), "The path is copied."));
$("view").addEventListener("close", () => {
  explaining?.abort();
  looking?.abort();
  $("grid").children[current]?.querySelector("button").focus();
});
new ResizeObserver(join).observe($("why"));
