// What the page asks of the server that it came from.

export class Refused extends Error {
  constructor(status, told) {
    super(told.message || `the server answered ${status}`);
    this.status = status;
    this.reason = told.reason || "";
  }
}

export function address(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  return query ? `/api/${path}?${query}` : `/api/${path}`;
}

export function thumbnail(item) {
  return address("thumbnail", { id: item.id, v: item.sha256.slice(0, 16) });
}

export function picture(item) {
  return address("picture", { id: item.id, v: item.sha256.slice(0, 16) });
}

export async function get(path, parameters = {}) {
  return answer(await fetch(address(path, parameters), { cache: "no-store" }));
}

export async function post(path, body, keepalive = false) {
  const headers = { "content-type": "application/json" };
  return answer(await fetch(address(path), { method: "POST", headers, body: JSON.stringify(body), keepalive }));
}

// The address of a picture that may be refused for a reason; to be revoked.
export async function fetchPicture(path, parameters) {
  const response = await fetch(address(path, parameters), { cache: "no-store" });
  return response.ok ? URL.createObjectURL(await response.blob()) : answer(response);
}

async function answer(response) {
  if (response.status === 204) return null;
  if (response.ok) return response.json();
  const text = await response.text();
  let told = { message: text.trim() };
  try {
    told = JSON.parse(text);
  } catch {
    // a sentence, as it is
  }
  throw new Refused(response.status, told);
}
