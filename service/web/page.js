"use strict";

// Images are sent to this service only; the page stores nothing and loads nothing from other hosts.

const MAX_CONCURRENT_REQUESTS = 4;
const MAX_ATTEMPTS = 5; // while the service answers 503 or 429
const MAX_PAUSE_SECONDS = 10;

const byId = (id) => document.getElementById(id);
const queue = [];
let running = 0;
let done = 0;
let total = 0;
let session = 0; // increased by "Clear"; results of earlier sessions are not counted

function addFiles(files) {
  const images = [...files].filter((file) => file instanceof File);
  for (const file of images) {
    const card = createCard(file);
    byId("results").prepend(card);
    queue.push({ file, card, session });
    total += 1;
  }
  if (images.length) showProgress();
  startRequests();
}

function startRequests() {
  while (running < MAX_CONCURRENT_REQUESTS && queue.length) {
    const job = queue.shift();
    running += 1;
    recognize(job).finally(() => {
      running -= 1;
      if (job.session === session) {
        done += 1;
        showProgress();
      }
      startRequests();
    });
  }
}

function showProgress() {
  byId("status").textContent = total === 0 ? "" : `${done} of ${total} read`;
}

async function recognize({ file, card }) {
  const orientation = byId("orientation").value;
  card.dataset.orientation = orientation;
  const query = new URLSearchParams({ detail: "chars", alternatives: 3, orientation, mode: byId("mode").value });
  const key = byId("key").value.trim();
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const url = new URL(`recognize?${query}`, document.baseURI).href;
  card.querySelector(".curl").textContent = curlCommand(url, file, Boolean(key));
  try {
    const [status, body] = await post(url, headers, file);
    const json = card.querySelector(".json");
    json.querySelector("pre").textContent = JSON.stringify(body, null, 2);
    json.hidden = false;
    if (status === 200) showResult(card, body);
    else showError(card, body.detail || `The service answered with status ${status}.`);
  } catch {
    showError(card, "Cannot reach the service.");
  }
}

async function post(url, headers, file) {
  for (let attempt = 1; ; attempt += 1) {
    const form = new FormData();
    form.append("file", file);
    const response = await fetch(url, { method: "POST", headers, body: form });
    if ((response.status === 503 || response.status === 429) && attempt < MAX_ATTEMPTS) {
      const seconds = Math.min(MAX_PAUSE_SECONDS, Number(response.headers.get("Retry-After")) || 1);
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      continue;
    }
    return [response.status, await response.json()];
  }
}

function createCard(file) {
  const card = byId("card").content.firstElementChild.cloneNode(true);
  card.querySelector(".name").textContent = file.name || "pasted image";
  const image = card.querySelector("img");
  image.alt = file.name ? `Image ${file.name}` : "Pasted image";
  image.addEventListener("error", () => { card.querySelector(".picture").hidden = true; }); // TIFF, PDF or no image
  image.src = URL.createObjectURL(file);
  return card;
}

function showResult(card, body) {
  const { chars = [], alternatives = [], pages = [] } = body;
  const lines = body.lines || pages.flatMap((page) => page.lines);
  const isPage = body.mode === "page";
  card.classList.toggle("page", isPage);
  card.querySelector(".text").textContent = body.text;
  card.querySelector(".figures").textContent = summarize(body, lines.length);
  card.querySelector(".copy").addEventListener("click", (event) => copy(event.currentTarget, body.text));
  const polygons = pages.length ? [] : drawPolygons(card, body, lines.length ? lines : chars); // no image of a document
  card.querySelector(".chars").append(...chars.map(createCharacterItem));
  card.querySelector(".lines").append(...lines.map((line, index) => createLineItem(line, polygons[index])));
  card.querySelector(".alternatives").append(...alternatives.map(createAlternativeItem));
  card.querySelector(".char-section").hidden = isPage;
  card.querySelector(".line-section").hidden = lines.length === 0;
  card.querySelector(".alternative-section").hidden = alternatives.length === 0;
  card.querySelector(".result").hidden = false;
}

function summarize(body, lineCount) {
  const subject = lineCount > 1 ? `Mean confidence of ${lineCount} lines` : "Confidence";
  const warnings = body.warnings.map((warning) => warning.replaceAll("_", " "));
  return [
    `${subject} ${percent(body.confidence)}`,
    `weakest character ${percent(body.confidence_min)}`,
    `${Math.round(body.timing_ms.total)} ms`,
    ...warnings,
  ].join(" · ");
}

// Draws the polygon of each line or character over the image; returns none if they would not match it.
function drawPolygons(card, body, elements) {
  const svg = card.querySelector("svg");
  const { width, height } = body.image;
  // Polygons refer to the upright image. The browser applies the EXIF orientation only, so they do not match an image
  // that was rotated further: by the option, or because its text lies on its side or upside down.
  const shown = card.querySelector("img");
  const isShownTall = shown.naturalWidth < shown.naturalHeight;
  const isTurned = !["0", "auto"].includes(card.dataset.orientation) || body.image.orientation_applied === 180;
  if (isTurned || (shown.naturalWidth && isShownTall !== width < height)) return [];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return elements.map((element) => {
    const polygon = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
    polygon.setAttribute("points", element.polygon.map((corner) => corner.join(",")).join(" "));
    polygon.setAttribute("fill", confidenceColour(element.confidence));
    polygon.setAttribute("stroke", confidenceColour(element.confidence));
    svg.append(polygon);
    return polygon;
  });
}

// Creates the list entry of a line; hovering over or focusing the entry or its polygon marks both.
function createLineItem(line, polygon) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = line.text || "withheld";
  button.style.borderLeftColor = confidenceColour(line.confidence);
  button.append(createConfidence(line.confidence));
  button.title = "Copy this line";
  button.addEventListener("click", () => navigator.clipboard.writeText(line.text).catch(() => {}));
  item.append(button);
  for (const [start, end] of [["mouseenter", "mouseleave"], ["focus", "blur"]]) {
    for (const target of polygon ? [button, polygon] : [button]) {
      target.addEventListener(start, () => setMarked(button, polygon, true));
      target.addEventListener(end, () => setMarked(button, polygon, false));
    }
  }
  if (polygon) polygon.addEventListener("click", () => button.focus());
  return item;
}

function setMarked(button, polygon, marked) {
  button.classList.toggle("marked", marked);
  if (polygon) polygon.classList.toggle("marked", marked);
}

function createCharacterItem(character) {
  const item = document.createElement("li");
  item.textContent = character.text;
  item.style.borderBottomColor = confidenceColour(character.confidence);
  item.append(createConfidence(character.confidence));
  return item;
}

function createAlternativeItem(alternative) {
  const item = document.createElement("li");
  item.textContent = `${alternative.text || "no text"} (${percent(alternative.confidence)})`;
  return item;
}

function createConfidence(confidence) {
  const element = document.createElement("small");
  element.textContent = percent(confidence);
  return element;
}

function showError(card, text) {
  const error = card.querySelector(".problem");
  error.textContent = text;
  error.hidden = false;
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Cannot copy: select the text instead";
  }
  setTimeout(() => { button.textContent = "Copy text"; }, 2000);
}

function curlCommand(url, file, hasKey) {
  const name = (file.name || "image.png").replaceAll("'", "'\\''");
  return `curl ${hasKey ? "-H 'Authorization: Bearer YOUR_KEY' " : ""}-F 'file=@${name}' '${url}'`;
}

// Red at a confidence of one half or less, green at one: most results lie in that range.
function confidenceColour(confidence) {
  const hue = 130 * Math.max(0, Math.min(1, (confidence - 0.5) * 2));
  return `hsl(${hue.toFixed(0)} 75% 42%)`;
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0.995 || share < 0.1 ? 1 : 0)} %`;
}

function clearResults() {
  queue.length = 0;
  session += 1;
  done = total = 0;
  for (const image of document.querySelectorAll("#results img")) URL.revokeObjectURL(image.src);
  byId("results").replaceChildren();
  showProgress();
  byId("choose").focus();
}

byId("choose").addEventListener("click", () => byId("files").click());
byId("clear").addEventListener("click", clearResults);
byId("files").addEventListener("change", (event) => {
  addFiles(event.target.files);
  event.target.value = ""; // so that choosing the same file again fires the event
});
document.addEventListener("paste", (event) => addFiles(event.clipboardData ? event.clipboardData.files : []));
for (const type of ["dragenter", "dragover"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) byId("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  addFiles(event.dataTransfer.files);
});
