// Asking the server.

export async function ask(url, makeOptions, signal) {
  // A JSON answer; waits and asks again where the server is busy.
  for (let tries = 0; ; tries++) {
    const response = await fetch(url, { ...(await makeOptions()), signal });
    if (response.ok && response.headers.get("Content-Type") === "image/png") return response.blob();
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    if (![429, 503].includes(response.status) || tries === 5) {
      const { what = `status ${response.status}`, remedy = "try again" } = answer.error ?? {};
      throw new Error(`${what[0].toUpperCase()}${what.slice(1)}: ${remedy}.`);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000 * Number(response.headers.get("Retry-After") ?? 1)));
    signal?.throwIfAborted();
  }
}

export function form(fields, image, name) {
  const body = new FormData();
  if (image) body.append("image", image, name);
  for (const [key, value] of Object.entries(fields)) body.append(key, value);
  return { method: "POST", body };
}

export function problem(error) {
  return error instanceof TypeError ? "The server does not answer. Is it still running?" : error.message;
}

export function say(where, text, kind = "") {
  where.textContent = text;
  where.className = kind;
}

const LARGE = 4_000_000, LONGEST = 1600; // bytes of a file, pixels of what is sent then

// A file's drawing, cleaned by the server, which reads more formats than browsers do.
export async function drawingIn(file, tidy) {
  let sent = file;
  if (file.size > LARGE) sent = await smaller(file).catch(() => file);
  const png = await ask("/api/picture", () => form({ prepare: tidy }, sent, file.name || "drawing"));
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(png);
  });
}

async function smaller(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/png" });
}
