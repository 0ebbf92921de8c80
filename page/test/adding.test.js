/** Studies that are added, before a server that is pretended: what is sent, what is shown meanwhile, and what is told. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Adding, dropped } from "../src/adding.js";

let requests;
beforeEach(() => {
  requests = [];
  globalThis.document = new EventTarget();
  globalThis.XMLHttpRequest = class extends EventTarget {
    upload = new EventTarget();
    constructor() {
      super();
      requests.push(this);
    }
    open(...where) {
      this.where = where.join(" ");
    }
    send(form) {
      this.names = form.getAll("files").map(({ name }) => name);
    }
    abort() {
      this.dispatchEvent(new Event("abort"));
    }
    progress(loaded, total) {
      this.upload.dispatchEvent(Object.assign(new Event("progress"), { loaded, total }));
    }
    answer(status, content) {
      Object.assign(this, { status, responseText: JSON.stringify(content) });
      this.dispatchEvent(new Event("load"));
    }
  };
});

class Element extends EventTarget {
  hidden = true;
  classes = new Set();
  classList = {
    toggle: (name, on) => this.classes[on ? "add" : "delete"](name),
    remove: (name) => this.classes.delete(name),
  };
  removeAttribute(name) {
    delete this[name];
  }
  click() {
    this.dispatchEvent(new Event("click"));
  }
}

function opened({ possible = true, limit = 1000, added = () => {} } = {}) {
  const names = ["panel", "files", "folder", "chosenFiles", "chosenFolder", "drop", "sending", "text", "progress", "end"];
  const elements = Object.fromEntries(names.map((name) => [name, new Element()]));
  const ids = [];
  const adding = new Adding(elements, async (studies) => {
    ids.push(...studies);
    return added(studies);
  });
  adding.allow({ possible, limit });
  return { adding, elements, ids };
}

const sent = (path, size = 10) => ({ file: new File([new Uint8Array(size)], path.split("/").at(-1)), path });
const done = (studies, refused = [], left_out = []) => ({ studies, refused, left_out });

test("files are sent with the folders that they are in, without hidden ones, and the studies that come of them opened", async () => {
  const { adding, elements, ids } = opened();
  const adds = adding.add([sent("ct/1.dcm"), sent("ct/.DS_Store"), sent("ct/2.dcm")]);
  const [request] = requests;
  assert.equal(request.where, "POST ../clickseg/api/studies");
  assert.deepEqual(request.names, ["ct/1.dcm", "ct/2.dcm"]);
  assert.deepEqual([elements.files.disabled, elements.folder.disabled, elements.sending.hidden], [true, true, false]);
  request.progress(5, 20);
  assert.deepEqual([elements.text.textContent, elements.progress.value, elements.end.textContent], ["Sending 2 files: 25 %", 0.25, "Cancel"]);
  request.progress(20, 20);
  assert.deepEqual([elements.text.textContent, elements.progress.value, elements.end.hidden], ["The server reads 2 files", undefined, true]);
  assert.equal(adding.busy, true);
  request.answer(200, done(["CT_1", "CT_2"]));
  await adds;
  assert.deepEqual(ids, ["CT_1", "CT_2"]);
  assert.deepEqual([elements.sending.hidden, elements.files.disabled, adding.busy], [true, false, false]);
});

test("what is chosen is sent with its folders, and can be chosen again", async () => {
  const { elements } = opened();
  for (const [button, input, path] of [["files", "chosenFiles", ""], ["folder", "chosenFolder", "ct/1.dcm"]]) {
    let asked = 0;
    elements[input].addEventListener("click", () => asked++);
    elements[button].click();
    assert.equal(asked, 1, "the browser's dialogue opens");
    const file = Object.assign(new File(["x"], "1.dcm"), { webkitRelativePath: path });
    Object.assign(elements[input], { files: [file], value: "C:\\fakepath\\1.dcm" });
    elements[input].dispatchEvent(new Event("change"));
    assert.equal(elements[input].value, "");
    requests.at(-1).answer(200, done(["a"]));
    await new Promise((done) => setImmediate(done));
  }
  assert.deepEqual(requests.map(({ names }) => names), [["1.dcm"], ["ct/1.dcm"]]);
});

test("what the server refuses stays to be read until somebody closes it, and nothing is opened", async () => {
  const { adding, elements, ids } = opened();
  const adds = adding.add([sent("a.nii")]);
  requests[0].answer(400, { detail: "a.nii is damaged" });
  await adds;
  assert.deepEqual([elements.text.textContent, elements.end.textContent, elements.end.hidden], ["a.nii is damaged", "Close", false]);
  assert.deepEqual([...elements.sending.classes], ["problem", "told"]);
  assert.deepEqual([ids, elements.progress.hidden], [[], true]);
  elements.end.click();
  assert.equal(elements.sending.hidden, true);
});

test("what is refused beside other studies is told as a problem, and what is left out is not", async () => {
  const { adding, elements, ids } = opened();
  let adds = adding.add([sent("a.dcm")]);
  requests[0].answer(200, done(["CT_1"], ["series 2: a hole"], ["series 1: a localizer"]));
  await adds;
  assert.equal(elements.text.textContent, "Not added:\nseries 2: a hole\nLeft out, as it makes no volume:\nseries 1: a localizer");
  assert.equal(elements.sending.classes.has("problem"), true);
  adds = adding.add([sent("a.dcm")]);
  assert.equal(elements.sending.classes.has("problem"), false);
  requests[1].answer(200, done(["CT_1"], [], ["series 1: a localizer"]));
  await adds;
  assert.equal(elements.sending.classes.has("problem"), false);
  assert.deepEqual(ids, ["CT_1", "CT_1"]);
});

test("what is being sent can be cancelled, and nothing is told of it", async () => {
  const { adding, elements, ids } = opened();
  const adds = adding.add([sent("a.nii")]);
  elements.end.click();
  await adds;
  assert.deepEqual([elements.sending.hidden, adding.busy, ids], [true, false, []]);
});

test("a connection that breaks off is told", async () => {
  const { adding, elements } = opened();
  const adds = adding.add([sent("a.nii")]);
  requests[0].dispatchEvent(new Event("error"));
  await adds;
  assert.match(elements.text.textContent, /^Not added: the connection broke off/);
});

test("what is larger than the server takes is not sent, and neither is nothing", async () => {
  const { adding, elements } = opened({ limit: 3 * 2 ** 20 });
  await adding.add([sent("a.nii", 2 ** 21), sent("b.nii", 2 ** 21)]);
  assert.match(elements.text.textContent, /^The server takes 3.0 MB at once, and this is 4.0 MB: /);
  await adding.add([sent(".hidden")]);
  assert.equal(elements.text.textContent, "There is no file in it.");
  assert.equal(requests.length, 0);
  adding.add([sent("c.nii", 3 * 2 ** 20)]);
  assert.equal(requests.length, 1);
});

test("while files are sent no others are", async () => {
  const { adding } = opened();
  adding.add([sent("a.nii")]);
  await adding.add([sent("b.nii")]);
  assert.equal(requests.length, 1);
});

test("what goes wrong when the new study is opened is told", async () => {
  const { adding, elements } = opened({ added: () => Promise.reject(new Error("too large for the browser")) });
  const adds = adding.add([sent("a.nii")]);
  requests[0].answer(200, done(["a"]));
  await adds;
  assert.equal(elements.text.textContent, "too large for the browser");
});

test("a server that takes no studies shows no buttons, and what is dropped there is not sent", async () => {
  const { elements } = opened({ possible: false });
  assert.equal(elements.panel.hidden, true);
  const { over, drop } = dragging([]);
  assert.deepEqual([over.defaultPrevented, over.dataTransfer.dropEffect, elements.drop.hidden], [true, "none", true]);
  assert.equal(drop.defaultPrevented, true, "the browser would open it, and leave the page");
  await new Promise((done) => setImmediate(done));
  assert.equal(requests.length, 0);
});

function dragging(items, types = ["Files"]) {
  const fire = (name) => {
    const event = Object.assign(new Event(name, { cancelable: true }), { dataTransfer: { types, items } });
    document.dispatchEvent(event);
    return event;
  };
  return { over: fire("dragover"), drop: fire("drop") };
}

const fileEntry = (path) => ({ isFile: true, fullPath: `/${path}`, file: (found) => found(new File(["x"], path.split("/").at(-1))) });
const folderEntry = (...batches) => ({ isDirectory: true, createReader: () => ({ readEntries: (found) => found(batches.shift() ?? []) }) });
const item = (entry, file = null) => ({ kind: "file", webkitGetAsEntry: () => entry, getAsFile: () => file });

test("of dropped folders all files are taken, however many of them there are and however deep they lie", async () => {
  const inner = folderEntry([fileEntry("a/b/3"), fileEntry("a/b/4")]);
  const folder = folderEntry([fileEntry("a/1")], [fileEntry("a/2"), inner]);
  const alone = new File(["x"], "alone.nii");
  const found = await dropped({ items: [item(folder), { kind: "string" }, item(fileEntry("b.nii")), item(null, alone)] });
  assert.deepEqual(found.map(({ path }) => path), ["a/1", "a/2", "a/b/3", "a/b/4", "b.nii", "alone.nii"]);
  assert.deepEqual(found.map(({ file }) => file.name), ["1", "2", "3", "4", "b.nii", "alone.nii"]);
});

test("what is dropped is sent, and texts that are dragged are left to the browser", async () => {
  const { elements } = opened();
  const { over } = dragging([item(fileEntry("b.nii"))]);
  assert.deepEqual([over.dataTransfer.dropEffect, elements.drop.hidden], ["copy", true]);
  await new Promise((done) => setImmediate(done));
  assert.deepEqual(requests.map(({ names }) => names), [["b.nii"]]);
  assert.equal(dragging([], ["text/plain"]).drop.defaultPrevented, false);
});
