"use strict";

// Pictures go to this service only; nothing is kept, and nothing is fetched from anywhere else.

const AT_ONCE = 4; // requests under way
const TRIES = 5; // when the service is full

const byId = (id) => document.getElementById(id);
const waiting = [];
let running = 0;
let done = 0;
let total = 0;
let round = 0; // pictures of a round that was cleared are not counted any more

function add(files) {
  const pictures = [...files].filter((file) => file instanceof File);
  for (const file of pictures) {
    const card = makeCard(file);
    byId("results").prepend(card);
    waiting.push({ file, card, round });
    total += 1;
  }
  if (pictures.length) tell();
  next();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    const job = waiting.shift();
    running += 1;
    read(job).finally(() => {
      running -= 1;
      if (job.round === round) {
        done += 1;
        tell();
      }
      next();
    });
  }
}

function tell() {
  byId("status").textContent = total === 0 ? "" : `${done} of ${total} read`;
}

async function read({ file, card }) {
  card.dataset.turn = byId("orientation").value;
  const mode = byId("mode").value;
  const query = new URLSearchParams({ detail: "chars", alternatives: 3, orientation: card.dataset.turn, mode });
  const key = byId("key").value.trim();
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const address = new URL(`recognize?${query}`, document.baseURI).href;
  card.querySelector(".curl").textContent = curl(address, file, Boolean(key));
  try {
    const [status, body] = await post(address, headers, file);
    const raw = card.querySelector(".raw");
    raw.querySelector("pre").textContent = JSON.stringify(body, null, 2);
    raw.hidden = false;
    if (status === 200) show(card, body);
    else complain(card, body.detail || `The service answered ${status}.`);
  } catch {
    complain(card, "The service cannot be reached.");
  }
}

async function post(address, headers, file) {
  for (let attempt = 1; ; attempt += 1) {
    const form = new FormData();
    form.append("file", file);
    const response = await fetch(address, { method: "POST", headers, body: form });
    if ((response.status === 503 || response.status === 429) && attempt < TRIES) {
      const seconds = Math.min(10, Number(response.headers.get("Retry-After")) || 1);
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      continue;
    }
    return [response.status, await response.json()];
  }
}

function makeCard(file) {
  const card = byId("card").content.firstElementChild.cloneNode(true);
  card.querySelector(".name").textContent = file.name || "pasted picture";
  const image = card.querySelector("img");
  image.alt = `The picture ${file.name || "that was pasted"}`;
  image.addEventListener("error", () => { card.querySelector(".picture").hidden = true; }); // TIFF, or no picture
  image.src = URL.createObjectURL(file);
  return card;
}

function show(card, body) {
  const { chars = [], alternatives = [], pages = [] } = body;
  const lines = body.lines || pages.flatMap((page) => page.lines);
  card.querySelector(".text").textContent = body.text;
  const notes = body.warnings.length ? `, ${body.warnings.join(", ").replaceAll("_", " ")}` : "";
  const of = body.mode === "page" ? `of each of ${lines.length} lines on average` : "of all";
  card.querySelector(".numbers").textContent =
    `${percent(body.confidence)} sure ${of}, ${percent(body.confidence_min)} of the weakest character, ` +
    `${Math.round(body.timing_ms.total)} ms${notes}`;
  card.querySelector(".copy").addEventListener("click", (event) => copy(event.currentTarget, body.text));
  card.querySelector(".answer").hidden = false;
  card.classList.toggle("page", body.mode === "page");
  const boxes = pages.length ? [] : draw(card, body, lines.length ? lines : chars); // no picture of a document
  for (const one of chars) card.querySelector(".chars").append(chip(one));
  card.querySelector(".spelt").hidden = body.mode === "page";
  lines.forEach((one, index) => card.querySelector(".lines").append(row(one, boxes[index])));
  card.querySelector(".rows").hidden = lines.length === 0;
  card.querySelector(".others").hidden = alternatives.length === 0;
  for (const one of alternatives) {
    const item = document.createElement("li");
    item.textContent = `${one.text || "no text"} (${percent(one.confidence)})`;
    card.querySelector(".alternatives").append(item);
  }
}

// Boxes over the picture, one for each of the things read; none where they would be in the wrong place.
function draw(card, body, things) {
  const svg = card.querySelector("svg");
  const { width, height } = body.image;
  // The boxes belong to the upright picture. The browser shows the file as its own metadata asks for, so a turn that was
  // made on top of that, which swaps the sides or stands the picture on its head, would leave them in the wrong place.
  // The same holds where a tall picture was read on its side.
  const shown = card.querySelector("img");
  if (card.dataset.turn !== "0" || (shown.naturalWidth && shown.naturalWidth < shown.naturalHeight !== width < height)) return [];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return things.map((one) => {
    const box = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
    box.setAttribute("points", one.polygon.map((corner) => corner.join(",")).join(" "));
    box.setAttribute("fill", colour(one.confidence));
    box.setAttribute("stroke", colour(one.confidence));
    svg.append(box);
    return box;
  });
}

// A line of a page, and its box: pointing at either, or reaching the line by keyboard, marks both.
function row(one, box) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = one.text || "withheld";
  button.style.borderLeftColor = colour(one.confidence);
  const share = document.createElement("small");
  share.textContent = percent(one.confidence);
  button.append(share);
  button.title = "Copy this line";
  button.addEventListener("click", () => navigator.clipboard.writeText(one.text).catch(() => {}));
  item.append(button);
  for (const [on, off] of [["mouseenter", "mouseleave"], ["focus", "blur"]]) {
    for (const thing of box ? [button, box] : [button]) {
      thing.addEventListener(on, () => mark(button, box, true));
      thing.addEventListener(off, () => mark(button, box, false));
    }
  }
  if (box) box.addEventListener("click", () => button.focus());
  return item;
}

function mark(button, box, on) {
  button.classList.toggle("marked", on);
  if (box) box.classList.toggle("marked", on);
}

function chip(one) {
  const item = document.createElement("li");
  item.textContent = one.text;
  item.style.borderBottomColor = colour(one.confidence);
  const share = document.createElement("small");
  share.textContent = percent(one.confidence);
  item.append(share);
  return item;
}

function complain(card, text) {
  const line = card.querySelector(".problem");
  line.textContent = text;
  line.hidden = false;
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select the text and copy it";
  }
  setTimeout(() => { button.textContent = "Copy text"; }, 2000);
}

function curl(address, file, keyed) {
  const name = (file.name || "picture.png").replaceAll("'", "'\\''");
  return `curl ${keyed ? "-H 'Authorization: Bearer YOUR_KEY' " : ""}-F 'file=@${name}' '${address}'`;
}

// Red for doubt, green for certainty; most of the scale lies where readings differ, above one half.
function colour(confidence) {
  const hue = 130 * Math.max(0, Math.min(1, (confidence - 0.5) * 2));
  return `hsl(${hue.toFixed(0)} 75% 42%)`;
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0.995 || share < 0.1 ? 1 : 0)} %`;
}

function clear() {
  waiting.length = 0;
  round += 1;
  done = total = 0;
  for (const image of document.querySelectorAll("#results img")) URL.revokeObjectURL(image.src);
  byId("results").replaceChildren();
  tell();
  byId("choose").focus();
}

byId("choose").addEventListener("click", () => byId("files").click());
byId("clear").addEventListener("click", clear);
byId("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = ""; // the same file may be chosen again
});
document.addEventListener("paste", (event) => add(event.clipboardData ? event.clipboardData.files : []));
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
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
  add(event.dataTransfer.files);
});
