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
beforeEach(() => {
  Object.assign(server, { down: false, saved: [], asked: [], waiting: null, preview: null, version: null });
  problems = [];
  latencies = [];
});

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

globalThis.fetch = async (path, { method, body, headers } = {}) => {
  const url = new URL(path.slice(2), "http://here");
  if (server.waiting) await server.waiting;
  if (server.down) throw new TypeError("no network");
  if (url.pathname.startsWith("/infer/")) {
    const asked = { model: url.pathname.split("/")[2], params: JSON.parse(body.get("params")), start: body.has("label") };
    server.asked.push(asked);
    return new Response(await answer(asked.model, asked.params));
  }
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
  const on = { change() {}, preview() {}, latency, problem: (sentence) => problems.push(sentence) };
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
export function hold() {
  let release;
  server.waiting = new Promise((done) => (release = done));
  return () => {
    server.waiting = null;
    release();
  };
}
