/** An open study against a server that answers with the clicked voxels, and fails or waits when a test wants it. */

import assert from "node:assert/strict";
import { beforeEach } from "node:test";
import { Editor } from "../src/editor.js";
import { Frame } from "../src/frame.js";
import { Labels } from "../src/labels.js";
import { compress, decompress, readLabels, writeLabels } from "../src/nifti.js";

export const SHAPE = [8, 1, 1];
export const MODELS = {
  one: { type: "deepgrow", labels: [], config: { propagate: false } },
  other: { type: "deepgrow", labels: [], config: { propagate: false } },
  all: { type: "deepedit", labels: { background: 0, spleen: 1, liver: 2 }, config: {} },
  slices: { type: "deepedit", labels: { background: 0, spleen: 1, liver: 2 }, config: { propagate: false } },
  odd: { type: "deepedit", labels: JSON.parse('{ "background": 0, "__proto__": 1, "constructor": 2 }'), config: { propagate: false } },
  all_auto: { type: "segmentation", labels: ["spleen", "liver"], config: {} },
};
const HEAD = new ArrayBuffer(352);
const head = new DataView(HEAD);
head.setInt32(0, 348, true);
[3, ...SHAPE].forEach((count, axis) => head.setInt16(40 + 2 * axis, count, true));

export const server = {};
export let problems;
export let latencies;
export let told; // of answers that were on their way
beforeEach(() => {
  Object.assign(server, { down: false, saved: [], asked: [], waiting: null, preview: null, version: null, progress: [], computing: null, given: 0 });
  problems = [];
  latencies = [];
  told = [];
  streams.clear();
});

const streams = new Map(); // by their ids, of whoever watches an answer come

/** The stream of an answer that is watched. */
function watched(id, signal) {
  const body = new ReadableStream({ start: (stream) => void streams.set(id, stream) });
  signal.addEventListener("abort", () => streams.delete(id));
  return new Response(body);
}

/** What is computed for a request: its progress is told, and then it takes as long as a test wants. */
async function computing({ progress }, signal) {
  const stream = streams.get(progress);
  for (const line of stream ? server.progress : []) stream.enqueue(new TextEncoder().encode(JSON.stringify(line) + "\n\n"));
  const given = new Promise((_, failed) => signal?.addEventListener("abort", () => failed(new DOMException("", "AbortError"))));
  given.catch(() => server.given++);
  await Promise.race([server.computing, given]);
}

/** What the models find: the clicked voxels, minus those clicked as background; `all` finds both labels unasked. */
function answer(model, params) {
  const values = new Uint8Array(SHAPE[0]);
  if (MODELS[model].type === "deepgrow") for (const [x] of params.foreground) values[x] = 1;
  else if (model !== "odd") values.set([1, 1, 0, 0, 2, 2], 0);
  for (const [name, value] of Object.entries(MODELS[model].labels)) {
    for (const [x] of Object.hasOwn(params, name) ? params[name] : []) values[x] = value;
  }
  return compress(writeLabels(HEAD, values));
}

globalThis.fetch = async (path, { method, body, headers, signal } = {}) => {
  const url = new URL(path.slice(2), "http://here");
  if (server.waiting) await server.waiting;
  if (server.down) throw new TypeError("no network");
  if (url.pathname.startsWith("/infer/")) {
    const asked = { model: url.pathname.split("/")[2], params: JSON.parse(body.get("params")), start: body.has("label") };
    server.asked.push(asked);
    await computing(asked.params, signal);
    return new Response(await answer(asked.model, asked.params));
  }
  if (url.pathname.startsWith("/clickseg/api/progress/")) return watched(url.pathname.split("/")[4], signal);
  if (url.pathname === "/clickseg/api/preview") return Response.json(server.preview);
  const { "If-Match": match, "If-None-Match": none } = headers;
  if (method === "DELETE" && !server.version) return Response.json({ detail: "no such label" }, { status: 404 });
  if (method === "DELETE" && (!match || match === server.version)) return (server.version = null) ?? new Response("{}");
  if (method === "DELETE") return Response.json({ detail: "saved since" }, { status: 412 });
  assert.deepEqual([method, url.pathname], ["PUT", "/datastore/label"]);
  if (none ? server.version : match && match !== server.version) return Response.json({ detail: "saved since" }, { status: 412 });
  server.saved.push(readLabels(await decompress(body.get("label"))).values.join(""));
  server.version = `"${server.saved.length}"`;
  return new Response("{}", { headers: { ETag: server.version } });
};

export function opened({ model = "one", labels = {}, base = [] } = {}) {
  const latency = (kind, ms) => latencies.push(ms === undefined || ms === null ? ms : "ms");
  const on = { change() {}, preview() {}, part: (part) => told.push(part), slice: (_, slice) => told.push(slice), latency, problem: (sentence) => problems.push(sentence) };
  const map = new Uint8Array(SHAPE[0]);
  map.set(base);
  const frame = new Frame(SHAPE, [1, 2, 3]);
  const known = { image: "a", head: HEAD, frame, axis: 2, models: MODELS, version: server.version };
  return new Editor({ ...known, labels: new Labels(labels), base: map, model, on });
}

export const click = (label, x, inside = true) => ({ label, position: [x, 0, 0], inside });
export const shown = (editor) => editor.map.join("");

export const soon = () => new Promise((done) => setTimeout(done, 20));

/** The server keeps whoever asks waiting until the returned function is called. */
export const hold = () => pause("waiting");

/** Whatever is asked is computed until the returned function is called. */
export const compute = () => pause("computing");

function pause(what) {
  let release;
  server[what] = new Promise((done) => (release = done));
  return () => {
    server[what] = null;
    release();
  };
}
