// The card of one file: its picture, its text and lines page by page, downloads.

import { confidenceColour, Picture } from "./picture.js";
import { curlCommand, errorText, post, serviceUrl } from "./service.js";

const NARROW = "(max-width: 56rem)"; // as in page.css

export class Card {
  // `key` returns the API key at the time of a request.
  constructor(file, key) {
    this.file = file;
    this.key = key;
    // Imported, since pictures are not loaded in the document of a template.
    this.element = document.importNode(document.getElementById("card").content.firstElementChild, true);
    this.find(".name").textContent = file.name || "pasted image";
    this.find("img").alt = file.name ? `Image ${file.name}` : "Pasted image";
    this.picture = new Picture(this.find(".picture"), file, key);
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  // Reads the file and shows the result or the error.
  async read(options) {
    this.url = serviceUrl("recognize", { detail: "chars", alternatives: 3, ...options });
    this.find(".curl").textContent = curlCommand(this.url, this.file, Boolean(this.key()));
    try {
      const response = await post(this.url, this.file, { key: this.key() });
      const body = await response.clone().json();
      this.find(".json pre").textContent = JSON.stringify(body, null, 2);
      this.find(".json").hidden = false;
      if (response.ok) this.showResult(body);
      else this.showError(await errorText(response));
    } catch {
      this.showError("Cannot reach the service.");
    }
  }

  showError(text) {
    this.find(".problem").textContent = text;
    this.find(".problem").hidden = false;
  }

  showResult(body) {
    this.body = body;
    this.pages = body.pages || [body];
    this.find(".copy").addEventListener("click", () => this.copy());
    this.find(".save-text").addEventListener("click", () => this.save("txt", `${body.text}\n`, "text/plain"));
    this.find(".save-json").addEventListener("click", () => {
      this.save("json", JSON.stringify(body, null, 2), "application/json");
    });
    this.find(".save-pdf").addEventListener("click", () => this.savePdf());
    if (body.pages) this.createPager();
    this.showPage(1);
    this.find(".result").hidden = false;
    if (matchMedia(NARROW).matches && !this.element.nextElementSibling) this.element.scrollIntoView();
  }

  createPager() {
    const select = this.find(".number");
    select.append(...this.pages.map((_, index) => new Option(index + 1, index + 1)));
    select.addEventListener("change", () => this.showPage(Number(select.value)));
    for (const [name, step] of [[".previous", -1], [".next", 1]]) {
      this.find(name).addEventListener("click", () => {
        const number = this.number + step;
        if (number >= 1 && number <= this.pages.length) this.showPage(number);
      });
    }
    this.find(".count").textContent = `of ${this.pages.length}`;
    this.find(".pager").hidden = false;
  }

  showPage(number) {
    this.number = number;
    const page = this.pages[number - 1];
    const { chars = [], alternatives = [], lines = [] } = page;
    const isPage = this.body.mode === "page";
    this.element.classList.toggle("page", isPage);
    this.find(".text").textContent = page.text;
    this.find(".figures").textContent = this.summarize(page, lines.length);
    const polygons = this.picture.show(page.image, number, Boolean(this.body.pages), isPage ? lines : chars);
    this.find(".chars").replaceChildren(...chars.map(createCharacterItem));
    this.find(".lines").replaceChildren(...lines.map((line, index) => createLineItem(line, polygons[index])));
    this.find(".alternatives").replaceChildren(...alternatives.map(createAlternativeItem));
    this.find(".char-section").hidden = isPage;
    this.find(".line-section").hidden = lines.length === 0;
    this.find(".alternative-section").hidden = alternatives.length === 0;
    this.find(".number").value = number;
    // Not `disabled`, which would take the focus from a button that was just pressed.
    this.find(".previous").setAttribute("aria-disabled", number === 1);
    this.find(".next").setAttribute("aria-disabled", number === this.pages.length);
  }

  summarize(page, lineCount) {
    const subject = lineCount > 1 ? `Mean confidence of ${lineCount} lines` : "Confidence";
    return [
      ...(this.body.pages ? [`Page ${this.number} of ${this.pages.length}`] : []),
      `${subject} ${percent(page.confidence)}`,
      `weakest character ${percent(page.confidence_min)}`,
      `${Math.round(this.body.timing_ms.total)} ms`,
      ...page.warnings.map((warning) => warning.replaceAll("_", " ")),
    ].join(" · ").replaceAll(/ (%|ms)/g, "\u00a0$1");
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.pages[this.number - 1].text);
      this.notify("Copied.");
    } catch {
      this.notify("Cannot copy: select the text instead.");
    }
  }

  async savePdf() {
    this.notify("Writing the PDF …");
    try {
      const response = await post(this.url, this.file, { key: this.key(), accept: "application/pdf" });
      if (!response.ok) return this.notify(await errorText(response));
      this.save("pdf", await response.blob(), "application/pdf");
    } catch {
      this.notify("Cannot reach the service.");
    }
  }

  save(extension, content, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = `${(this.file.name || "image").replace(/\.[^.]*$/, "")}.${extension}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000); // the browser may still be reading it
    this.notify(`Saved ${link.download}.`);
  }

  notify(text) {
    this.find(".notice").textContent = text;
  }
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
    for (const target of [button, polygon]) {
      target.addEventListener(start, () => setMarked(button, polygon, true));
      target.addEventListener(end, () => setMarked(button, polygon, false));
    }
  }
  polygon.addEventListener("click", () => button.focus());
  return item;
}

function setMarked(button, polygon, marked) {
  button.classList.toggle("marked", marked);
  polygon.classList.toggle("marked", marked);
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

function percent(share) {
  return `${(100 * share).toFixed(share > 0.995 || share < 0.1 ? 1 : 0)} %`;
}
