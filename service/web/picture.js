// The picture of a card: the page that was read, upright, with a polygon over each line or character.

import { post, serviceUrl } from "./service.js";

export class Picture {
  constructor(element, file, key) {
    this.element = element;
    this.image = element.querySelector("img");
    this.svg = element.querySelector("svg");
    this.file = file;
    this.key = key;
    this.urls = new Map([["file", URL.createObjectURL(file)]]);
    this.shown = "file";
    this.image.src = this.urls.get("file");
    // TIFF and PDF are not shown by every browser, and any file may be no picture.
    this.fileIsPicture = this.image.decode().then(() => true, () => false);
    this.fileIsPicture.then((isPicture) => { if (this.shown === "file") element.hidden = !isPicture; });
  }

  // Draws the polygons of a page's elements and returns them. The picture follows: the file itself where the browser
  // shows it as it was read, else a preview from the service.
  show({ width, height, orientation_applied: rotation }, page, isDocument, elements) {
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const polygons = elements.map(createPolygon);
    this.svg.replaceChildren(...polygons);
    this.load(rotation, page, isDocument);
    return polygons;
  }

  async load(rotation, page, isDocument) {
    const wanted = isDocument || rotation ? `${page} ${rotation}` : "file";
    this.shown = wanted;
    this.element.classList.add("loading");
    const fileSuffices = wanted === "file" && await this.fileIsPicture;
    const url = fileSuffices ? this.urls.get("file") : await this.preview(wanted, page, rotation).catch(() => null);
    if (this.shown !== wanted) return; // another page was chosen meanwhile
    this.element.hidden = url === null;
    if (url !== null) {
      this.image.src = url;
      await this.image.decode().catch(() => {});
    }
    if (this.shown === wanted) this.element.classList.remove("loading");
  }

  async preview(name, page, rotation) {
    const known = name !== "file" && this.urls.get(name);
    if (known) return known;
    const response = await post(serviceUrl("web/preview", { page, rotation }), this.file, { key: this.key() });
    if (!response.ok) return null;
    const url = URL.createObjectURL(await response.blob());
    this.urls.set(name === "file" ? "preview" : name, url);
    return url;
  }

  release() {
    for (const url of this.urls.values()) URL.revokeObjectURL(url);
  }
}

function createPolygon(element) {
  const polygon = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
  polygon.setAttribute("points", element.polygon.map((corner) => corner.join(",")).join(" "));
  polygon.setAttribute("fill", confidenceColour(element.confidence));
  polygon.setAttribute("stroke", confidenceColour(element.confidence));
  return polygon;
}

// Red at a confidence of one half or less, green at one: most results lie in that range.
export function confidenceColour(confidence) {
  const hue = 130 * Math.max(0, Math.min(1, (confidence - 0.5) * 2));
  return `hsl(${hue.toFixed(0)} 75% 42%)`;
}
