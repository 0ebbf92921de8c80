/** What the page asks the server. Every function throws Error with a sentence for the user. */

const JSON_BODY = { "Content-Type": "application/json" };

/** Somebody else has saved a label since this one was opened. */
export class Outdated extends Error {}

/** The server is well, and what was asked of it is wrong. */
export class Refused extends Error {}

/** The user does not want it any more. */
export class Cancelled extends Error {}

/** What was asked for is not there. */
class Missing extends Refused {}

const KINDS = { 400: Refused, 404: Missing, 412: Outdated };
const SILENT = "The server does not answer. Is it still running?";

async function ask(path, options) {
  let response;
  try {
    response = await fetch(`..${path}`, options);
  } catch {
    throw new Error(SILENT);
  }
  if (!response.ok) throw problem(response.status, await response.text());
  return response;
}

const problem = (status, text) => new (KINDS[status] ?? Error)(sentence(status, text));

function sentence(status, text) {
  try {
    const { detail } = JSON.parse(text);
    if (typeof detail === "string") return detail;
  } catch {
    // not JSON: what follows says as much as there is to say
  }
  return `The server answered with status ${status}${text ? `: ${text.slice(0, 200)}` : ""}`;
}

const query = (fields) => `?${new URLSearchParams(fields)}`;

export const info = async () => (await ask("/info/")).json();

export const studies = async () => (await ask("/clickseg/api/studies")).json();

/** {possible, limit}: whether the server takes studies, and how many bytes at once. */
export const adding = async () => (await ask("/clickseg/api/adding")).json();

/**
 * Add studies: {studies: ids, refused: sentences}. files: [{file, path}]. progress(part): called with how much of them is
 * sent, 1 at the end. Throws Cancelled if the signal says so meanwhile.
 */
export function addStudies(files, progress, signal) {
  const form = new FormData();
  for (const { file, path } of files) form.append("files", file, path);
  const request = new XMLHttpRequest(); // `fetch` does not tell how much is sent
  return new Promise((done, failed) => {
    request.open("POST", "../clickseg/api/studies");
    request.upload.addEventListener("progress", ({ loaded, total }) => progress(loaded / total));
    request.addEventListener("load", () => {
      const { status, responseText } = request;
      if (status === 200) done(JSON.parse(responseText));
      else failed(problem(status, responseText));
    });
    request.addEventListener("error", () => failed(new Error(`Not added: the connection broke off. ${SILENT}`)));
    request.addEventListener("abort", () => failed(new Cancelled("cancelled")));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** {file: ArrayBuffer of the .nii file, axis: the source axis that numbers axial slices}. */
export async function image(id) {
  const response = await ask(`/clickseg/api/image${query({ image: id })}`);
  return { file: await response.arrayBuffer(), axis: Number(response.headers.get("X-Clickseg-Axis")) };
}

/** {blob: .nii.gz, labels: {name: value}, version} of the final label, or null. */
export async function label(id) {
  const response = await ask(`/clickseg/api/label${query({ image: id })}`);
  if (response.status === 204) return null;
  const { headers } = response;
  return { blob: await response.blob(), labels: JSON.parse(headers.get("X-Clickseg-Labels")), version: headers.get("ETag") };
}

/**
 * The .nii.gz of the answer. start: .nii.gz of the label map that is to be corrected, or null.
 * watcher: {part(fraction), slice(runs), signal}, told how far the answer is, or null; the signal gives it up.
 */
export async function infer(model, id, params, start, watcher = null) {
  const form = new FormData();
  const path = `/infer/${encodeURIComponent(model)}${query({ image: id, output: "image" })}`;
  const ending = new AbortController();
  try {
    const progress = watcher ? { progress: await watch(watcher, ending.signal) } : {};
    form.set("params", JSON.stringify({ ...params, ...progress, result_extension: ".nii.gz" }));
    if (start) form.set("label", start, "start.nii.gz");
    return await (await ask(path, { method: "POST", body: form, signal: watcher?.signal })).blob();
  } catch (error) {
    throw watcher?.signal.aborted ? new Cancelled("given up") : error;
  } finally {
    ending.abort();
  }
}

/** Watch an answer come, until `ended`. Returns the text by which a request says that it is the one. */
async function watch({ part, slice }, ended) {
  const progress = String(Math.random()).slice(2);
  const response = await ask(`/clickseg/api/progress/${progress}`, { signal: ended });
  const read = eachLine(response.body, (line) => ("part" in line ? part(line.part) : slice(line)));
  read.catch(() => {}); // the answer comes nevertheless, or says what is wrong
  return progress;
}

/** Hand over every line of JSON of a stream, as it comes. */
async function eachLine(stream, told) {
  let begun = "";
  for (const reader = stream.pipeThrough(new TextDecoderStream()).getReader(); ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (begun + value).split("\n");
    begun = lines.pop();
    for (const line of lines) if (line) told(JSON.parse(line));
  }
}

/** One slice of the answer as runs, or null if a newer preview has taken its place. */
export async function preview(model, id, params, slice, client) {
  const body = JSON.stringify({ model, image: id, params, slice, client });
  const response = await ask("/clickseg/api/preview", { method: "POST", headers: JSON_BODY, body });
  return response.status === 204 ? null : response.json();
}

/**
 * Save the final label; returns its version. over: the version that it takes the place of, null if there is none yet;
 * throws Outdated if that is not so. undefined: whatever is there.
 */
export async function save(id, file, labelInfo, over) {
  const form = new FormData();
  form.set("params", JSON.stringify({ label_info: labelInfo }));
  form.set("label", file, "label.nii.gz");
  const headers = over === undefined ? {} : over === null ? { "If-None-Match": "*" } : { "If-Match": over };
  const path = `/datastore/label${query({ image: id, tag: "final" })}`;
  return (await ask(path, { method: "PUT", body: form, headers })).headers.get("ETag");
}

/** Take the final label away, if there is one. over: as in `save`. */
export async function remove(id, over) {
  try {
    const path = `/datastore/label${query({ id, tag: "final" })}`;
    await ask(path, { method: "DELETE", headers: over === undefined ? {} : { "If-Match": over } });
  } catch (error) {
    if (!(error instanceof Missing)) throw error;
  }
}

/** Who this browser is to the server, which gives two annotators two studies. */
function clientId() {
  let id = localStorage.getItem("clickseg-client");
  if (!id) localStorage.setItem("clickseg-client", (id = `page-${Math.random().toString(36).slice(2)}`));
  return id;
}

/** The id of the study to label next, or null when all are labelled. */
export async function next(strategy) {
  const path = `/activelearning/${encodeURIComponent(strategy)}`;
  const body = JSON.stringify({ client_id: clientId() });
  const found = await (await ask(path, { method: "POST", headers: JSON_BODY, body })).json();
  return found.id ?? null;
}

export const training = async (model) => (await ask(`/clickseg/api/training/${encodeURIComponent(model)}`)).json();

export async function train(model, params) {
  const body = JSON.stringify(params);
  await ask(`/train/${encodeURIComponent(model)}`, { method: "POST", headers: JSON_BODY, body });
}

export const stopTraining = () => ask("/train/", { method: "DELETE" });
