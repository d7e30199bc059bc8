// What the model takes a drawing for: photos that it imagines, each to search with.

import { ask, form, problem, say } from "/server.js";
import * as sheet from "/sheet.js";

const PICTURES = 4; // places for them while they are made

const $ = (id) => document.getElementById(id);
let able = Promise.resolve(false), asking = null;
let made = ""; // what the photos are made of, besides the drawing; empty without photos
let whenChosen = () => {};

// Args: imagines: promises whether the server can; chosen: called with {source, number},
// a photo's data: URL and which of them it is.
export function start(imagines, chosen) {
  [able, whenChosen] = [imagines, chosen];
  empty();
}

// The photos of this drawing and these words, if they are not there already.
export async function show({ words = "", raw }) {
  const wanted = JSON.stringify([words, Boolean(raw)]);
  if (wanted === made) return;
  forget();
  made = wanted;
  const mine = asking = new AbortController();
  if (!(await able) || mine.signal.aborted) return;
  $("imagined").hidden = false;
  say($("imagined-status"), "Imagining ...", "busy");
  try {
    const drawing = await sheet.picture();
    const question = form({ text: words, prepare: !raw }, drawing, "drawing.png");
    const { pictures } = await ask("/api/imagine", () => question, mine.signal);
    if (mine.signal.aborted) return;
    $("imagined-pictures").replaceChildren(...pictures.map(button));
    say($("imagined-status"), "Choose one to search with it.");
  } catch (error) {
    if (mine.signal.aborted) return;
    made = ""; // the next search asks again
    say($("imagined-status"), problem(error), "bad");
  }
}

// The drawing changes: nobody waits for its photos any more.
export function forget() {
  if (!made) return; // each movement of the pen comes here
  asking.abort();
  made = "";
  empty();
  say($("imagined-status"), "");
}

export function hide() {
  forget();
  $("imagined").hidden = true;
}

// Shows which of them is searched with, if any.
export function mark(number) {
  [...$("imagined-pictures").querySelectorAll("button")].forEach((each, i) => each.setAttribute("aria-pressed", i + 1 === number));
}

function empty() {
  const places = Array.from({ length: PICTURES }, () => document.createElement("span"));
  $("imagined-pictures").replaceChildren(...places);
}

function button(source, i, all) {
  const made = document.createElement("button"), image = document.createElement("img");
  made.type = "button";
  made.setAttribute("aria-pressed", false);
  Object.assign(image, { src: source, alt: `Search with imagined photo ${i + 1} of ${all.length}` });
  made.append(image);
  made.addEventListener("click", () => whenChosen({ source, number: i + 1 }));
  return made;
}
