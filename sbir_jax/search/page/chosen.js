// Photos that were ticked, over all searches, and their list.

import { say } from "/server.js";

const $ = (id) => document.getElementById(id);
const chosen = new Map(); // hit by id, in the order they were ticked

export function isChosen(hit) {
  return chosen.has(hit.id);
}

export function tick(hit, on) {
  if (on) chosen.set(hit.id, hit);
  else chosen.delete(hit.id);
  show();
}

function show() {
  $("chosen").hidden = !chosen.size;
  $("chosen-count").textContent = chosen.size === 1 ? "1 photo selected" : `${chosen.size} photos selected`;
  for (const box of document.querySelectorAll("#grid input")) box.checked = chosen.has(box.value);
}

// One a line: where the photo lies, or its place among the photos where that is not told.
function list() {
  return [...chosen.values()].map((hit) => placeOf(hit)).join("\n") + "\n";
}

export function placeOf(hit) {
  return hit.path ?? [hit.folder, hit.name].filter(Boolean).join("/");
}

export async function copy(text, where, told) {
  try {
    await navigator.clipboard.writeText(text);
    say(where, told);
  } catch {
    say(where, "The browser does not let this page copy; take it from the list instead.", "bad");
  }
}

$("chosen-copy").addEventListener("click", () => copy(list(), $("status"), "The list is copied."));
$("chosen-save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([list()], { type: "text/plain" }));
  link.download = "photos.txt";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
$("chosen-none").addEventListener("click", () => { chosen.clear(); show(); });
