// The demo page: takes files in, reads some at a time, and shows a card for each.

import { Card } from "./card.js";

const MAX_CONCURRENT_REQUESTS = 4;

const byId = (id) => document.getElementById(id);
const apiKey = () => byId("key").value.trim();
const queue = [];
let cards = [];
let running = 0;
let done = 0;
let session = 0; // increased by "Clear"; results of earlier sessions are not counted

function addFiles(files) {
  for (const file of [...files].filter((item) => item instanceof File)) {
    const card = new Card(file, apiKey);
    byId("results").prepend(card.element);
    cards.push(card);
    queue.push({ card, session });
  }
  showProgress();
  startRequests();
}

function startRequests() {
  while (running < MAX_CONCURRENT_REQUESTS && queue.length) {
    const job = queue.shift();
    running += 1;
    job.card.read({ orientation: byId("orientation").value, mode: byId("mode").value }).finally(() => {
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
  byId("status").textContent = cards.length === 0 ? "" : `${done} of ${cards.length} read`;
}

async function addSample(name) {
  try {
    const response = await fetch(`web/samples/${name}`);
    addFiles([new File([await response.blob()], name, { type: response.headers.get("Content-Type") })]);
  } catch {
    byId("status").textContent = "Cannot reach the service.";
  }
}

function clearResults() {
  queue.length = 0;
  session += 1;
  done = 0;
  for (const card of cards) card.picture.release();
  cards = [];
  byId("results").replaceChildren();
  showProgress();
  byId("choose").focus();
}

for (const [button, input] of [["choose", "files"], ["photograph", "camera"]]) {
  byId(button).addEventListener("click", () => byId(input).click());
  byId(input).addEventListener("change", (event) => {
    addFiles(event.target.files);
    event.target.value = ""; // so that choosing the same file again fires the event
  });
}
for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", () => addSample(button.dataset.sample));
}
byId("clear").addEventListener("click", clearResults);
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
