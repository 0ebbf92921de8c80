/** Answers that take long: what is shown of them while they come, and when they are given up. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Awaiting } from "../src/awaiting.js";
import { click, compute, latencies, opened, problems, server, shown, soon, told } from "../testing/study.js";

const line = (slice, values, lengths) => ({ axis: 2, slice, shape: [8, 1], values, lengths });

test("a label that goes from slice to slice is shown as it comes", async () => {
  const editor = opened({ labels: { spleen: 1 }, base: [0, 0, 0, 0, 0, 0, 1, 1] });
  editor.togglePropagate("liver");
  server.progress = [line(0, [0, 1, 0], [1, 2, 5])];
  const done = compute();
  editor.add(click("liver", 0));
  await soon();
  assert.deepEqual([editor.display.join(""), told, shown(editor)], ["02200011", [0], "00000011"]);
  done();
  await editor.idle();
  assert.deepEqual([editor.display.join(""), shown(editor)], ["20000011", "20000011"], "the answer counts, whatever was shown before");
  assert.deepEqual(latencies, [null, "ms"]);
});

test("what is locked is not drawn over by what is on its way", async () => {
  const editor = opened({ labels: { spleen: 1 }, base: [0, 1, 1] });
  await editor.toggleLock("spleen");
  editor.togglePropagate("liver");
  server.progress = [line(0, [1], [8])];
  const done = compute();
  editor.add(click("liver", 0));
  await soon();
  assert.equal(editor.display.join(""), "21122222");
  done();
  await editor.idle();
});

test("with a model of named labels each slice shows all that are found there", async () => {
  const editor = opened({ model: "slices", labels: { spleen: 1, liver: 2 } });
  editor.togglePropagate("liver");
  server.progress = [line(0, [1, 2, 0], [2, 3, 3])];
  const done = compute();
  editor.add(click("liver", 4));
  await soon();
  assert.equal(editor.display.join(""), "11222000");
  done();
  await editor.idle();
});

test("a further click does not wait for what goes from slice to slice, and undo gives it up", async () => {
  const editor = opened();
  editor.togglePropagate("liver");
  server.progress = [line(0, [1], [8])];
  compute(); // for ever
  editor.add(click("liver", 0));
  await soon();
  editor.add(click("liver", 1));
  await soon();
  assert.deepEqual([server.asked.length, server.given], [2, 1]);
  editor.undo();
  editor.undo();
  await editor.idle();
  assert.deepEqual([server.given, shown(editor), editor.display.join(""), problems], [2, "00000000", "00000000", []]);
  assert.equal(editor.failures, 0);
});

test("whoever takes an undo back is answered", async () => {
  const editor = opened();
  editor.togglePropagate("liver");
  const done = compute();
  editor.add(click("liver", 0));
  await soon();
  editor.undo();
  editor.redo();
  done();
  await editor.idle();
  assert.deepEqual([shown(editor), problems], ["10000000", []]);
});

test("who leaves a study waits for none of its answers", async () => {
  const editor = opened();
  editor.togglePropagate("liver");
  compute();
  editor.add(click("liver", 0));
  await soon();
  editor.close();
  await editor.idle();
  assert.deepEqual([server.given, problems, latencies], [1, [], [null]]);
});

test("how far a model is that answers unasked is told, and its answer is waited for", async () => {
  const editor = opened({ model: "all", labels: { spleen: 1, liver: 2 } });
  server.progress = [{ part: 0.25 }, { part: 1 }];
  const done = compute();
  editor.segmentAll();
  await soon();
  assert.deepEqual(told, [0.25, 1]);
  editor.add(click("liver", 2));
  await soon();
  assert.equal(server.given, 0, "it would have to begin anew");
  done();
  await editor.idle();
  assert.equal(shown(editor), "11202200");
});

test("a label that the model knows and the answer does not hold is not made up", async () => {
  const editor = opened({ model: "slices" });
  editor.togglePropagate("liver");
  server.progress = [line(0, [0, 2], [4, 4])];
  const done = compute();
  editor.add(click("liver", 4));
  await soon();
  assert.equal(editor.labels.has("spleen"), false);
  assert.equal(editor.display.join(""), "00001111");
  done();
  await editor.idle();
});

/** An Awaiting; what is told of it; and the state that is current. */
function awaiting() {
  const here = { state: "first", told: [] };
  const tell = (kind) => (...what) => here.told.push([kind, ...what]);
  const one = new Awaiting({ current: () => here.state, latency() {}, part: tell("part"), slice: tell("slice") });
  return { one, here };
}

test("of an answer that is not wanted any more nothing is told", async () => {
  const { one, here } = awaiting();
  let watcher;
  let done;
  const running = one.run("first", (given) => new Promise((end) => ([watcher, done] = [given, end])));
  watcher.part(0.5);
  here.state = "second";
  watcher.part(0.75);
  watcher.slice("late");
  here.state = "first";
  done();
  await running;
  watcher.slice("after the answer");
  assert.deepEqual(here.told, [["part", 0.5]]);
});

test("an answer that ends leaves a later one awaited", async () => {
  const { one, here } = awaiting();
  const ends = [];
  const first = one.run("first", () => new Promise((end) => ends.push(end)));
  here.state = "second";
  const second = one.run("second", () => new Promise((end) => ends.push(end)));
  ends[0]();
  await first;
  assert.equal(one.state, "second");
  ends[1]();
  await second;
  assert.equal(one.state, null);
});

test("a plain click is not watched: it is there at once", async () => {
  const editor = opened();
  editor.add(click("liver", 0));
  await editor.idle();
  assert.equal("progress" in server.asked[0].params, false);
});
