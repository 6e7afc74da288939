// Requests to this service. Files are sent nowhere else, and the page stores nothing.

const MAX_ATTEMPTS = 5; // while the service answers 503 or 429
const MAX_PAUSE_SECONDS = 10;

// Sends a file and returns the response; waits and repeats while the service is busy.
export async function post(url, file, { key, accept = "*/*" }) {
  const headers = key ? { Accept: accept, Authorization: `Bearer ${key}` } : { Accept: accept };
  for (let attempt = 1; ; attempt += 1) {
    const form = new FormData();
    form.append("file", file);
    const response = await fetch(url, { method: "POST", headers, body: form });
    const isBusy = response.status === 503 || response.status === 429;
    if (!isBusy || attempt === MAX_ATTEMPTS) return response;
    const seconds = Math.min(MAX_PAUSE_SECONDS, Number(response.headers.get("Retry-After")) || 1);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

export function serviceUrl(path, query) {
  return new URL(`${path}?${new URLSearchParams(query)}`, document.baseURI).href;
}

export async function errorText(response) {
  const problem = await response.json().catch(() => ({}));
  return problem.detail || `The service answered with status ${response.status}.`;
}

export function curlCommand(url, file, hasKey) {
  const name = (file.name || "image.png").replaceAll("'", "'\\''");
  return `curl ${hasKey ? "-H 'Authorization: Bearer YOUR_KEY' " : ""}-F 'file=@${name}' '${url}'`;
}
