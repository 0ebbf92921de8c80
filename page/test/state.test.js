import assert from "node:assert/strict";
import { test } from "node:test";
import { answersFirst, canPropagate, labelsOf, modelFor, questionOf, questions } from "../src/clicks.js";
import { History } from "../src/history.js";
import { SHORTCUTS, shortcut } from "../src/keyboard.js";
import { Labels, checkName } from "../src/labels.js";
import { Newest } from "../src/newest.js";
import { readLabels, writeLabels } from "../src/nifti.js";
import { drawCurve, trainerOf } from "../src/training.js";
import { doubt, windows } from "../src/windows.js";

const ONE = { type: "deepgrow", labels: ["spleen", "liver"], config: { propagate: false } };
const SEVERAL = { type: "deepedit", labels: { background: 0, spleen: 1, liver: 2 }, config: { propagate: false } };
const VOLUME = { type: "deepedit", labels: { background: 0, spleen: 1, liver: 2 }, config: {} };

const ODD = ["__proto__", "constructor", "hasOwnProperty"]; // that a plain object has without being given them

const click = (label, position, inside = true) => ({ label, position, inside });
const state = (clicks, more = {}) => ({ clicks, propagate: [], automatic: false, model: "m", base: {}, ...more });

test("undo and redo go back and forth over any number of states", () => {
  const history = new History(0);
  for (const next of [1, 2, 3]) history.push(next);
  for (const expected of [2, 1, 0, 0]) {
    history.undo();
    assert.equal(history.state, expected);
  }
  assert.equal(history.canUndo, false);
  for (const expected of [1, 2, 3, 3]) {
    history.redo();
    assert.equal(history.state, expected);
  }
  history.undo();
  history.push(7);
  assert.equal(history.canRedo, false);
  history.undo();
  assert.equal(history.state, 2);
});

test("what came after a state that is restored can be done again", () => {
  const history = new History("a");
  const redone = () => {
    history.redo();
    return history.state;
  };
  for (const next of ["b", "c"]) history.push(next);
  history.restore("a");
  assert.deepEqual([history.state, history.canUndo], ["a", false]);
  assert.deepEqual([redone(), redone(), history.canRedo], ["b", "c", false]);
  history.push("d");
  history.undo();
  history.restore("d");
  assert.deepEqual([history.state, history.canUndo, history.canRedo], ["d", true, false]);
  history.push("e");
  history.undo();
  history.push("f"); // "e" is nowhere any more
  history.restore("e");
  assert.deepEqual([history.state, redone(), history.canRedo], ["e", "f", false]);
});

test("a model of one structure is asked once for each label, the last clicked one last", () => {
  const clicks = [click("liver", [1, 1, 1]), click("spleen", [2, 2, 2]), click("liver", [3, 3, 3], false)];
  const asked = questions(state(clicks, { propagate: ["liver"] }), ONE);
  assert.deepEqual(asked.map(({ params }) => params), [
    { label: "spleen", foreground: [[2, 2, 2]], background: [] },
    { label: "liver", foreground: [[1, 1, 1]], background: [[3, 3, 3]], propagate: true },
  ]);
  assert.deepEqual([...asked[1].values], [[1, "liver"]]);
});

test("a model of several labels is asked once, and a click outside is one on the background", () => {
  const clicks = [click("liver", [1, 1, 1]), click("spleen", [2, 2, 2]), click("liver", [3, 3, 3], false)];
  const [{ params, values }] = questions(state(clicks), SEVERAL);
  assert.deepEqual(params, { background: [[3, 3, 3]], liver: [[1, 1, 1]], spleen: [[2, 2, 2]] });
  assert.deepEqual([...values], [[1, "spleen"], [2, "liver"]]);
  assert.equal(questionOf(state(clicks), SEVERAL, "vertebra"), undefined);
});

test("only a model that answers first is asked without clicks, and only when the user wants it", () => {
  assert.deepEqual(questions(state([], { automatic: true }), SEVERAL), []);
  assert.deepEqual(questions(state([]), VOLUME), []);
  assert.equal(questions(state([], { automatic: true }), VOLUME).length, 1);
  assert.deepEqual([answersFirst(ONE), answersFirst(SEVERAL), answersFirst(VOLUME)], [false, false, true]);
  assert.deepEqual([canPropagate(ONE), canPropagate(VOLUME)], [true, false]);
  assert.deepEqual([labelsOf(ONE), labelsOf(VOLUME)], [null, ["spleen", "liver"]]);
});

test("of what is asked for meanwhile only the newest runs, one at a time", async () => {
  const [ran, running] = [[], []];
  const newest = new Newest(async (wish) => {
    running.push(wish);
    assert.equal(running.length, 1);
    await new Promise((done) => setTimeout(done, 5));
    running.pop();
    ran.push(wish);
  }, assert.ifError);
  newest.ask("a");
  await null;
  await null;
  for (const wish of ["b", "c", "d"]) newest.ask(wish);
  await newest.idle();
  assert.deepEqual(ran, ["a", "d"]);
  newest.ask("e");
  newest.cancel();
  await newest.idle();
  assert.deepEqual(ran, ["a", "d"]);
});

test("a task that throws is told, what was asked for meanwhile runs, and nobody waits for ever", async () => {
  const [ran, told] = [[], []];
  const newest = new Newest(async (wish) => {
    if (wish === "bad") newest.ask("next");
    if (wish.startsWith("bad")) throw new Error(wish);
    ran.push(wish);
  }, (error) => told.push(error.message));
  newest.ask("bad");
  await newest.idle();
  assert.deepEqual([ran, told], [["next"], ["bad"]]);
  newest.ask("bad too");
  await newest.idle();
  newest.ask("last");
  await newest.idle();
  assert.deepEqual([ran, told], [["next", "last"], ["bad", "bad too"]]);
});

test("where what throws cannot be told, the next task runs all the same", async () => {
  const ran = [];
  const newest = new Newest(
    async (wish) => {
      if (wish === "bad") throw new Error("first");
      ran.push(wish);
    },
    () => {
      throw new Error("second");
    },
  );
  newest.ask("bad");
  await assert.rejects(newest.idle(), /second/);
  newest.ask("good");
  await newest.idle();
  assert.deepEqual(ran, ["good"]);
});

test("a new label has no name that means something else", () => {
  for (const name of ["background", "Background"]) assert.throws(() => checkName(name, []), /What has no label is background/);
  assert.throws(() => checkName("start", ["frozen", "start"]), /^Error: start means something else to the server/);
  checkName("Start", ["frozen", "start"]);
  checkName("liver", ["frozen", "start"]);
});

test("names that every object knows are labels and models like others", () => {
  const values = Object.fromEntries(ODD.map((name, index) => [name, index + 1]));
  const labels = new Labels(values);
  for (const name of ODD) assert.match(labels.colour(name), /^#[0-9a-f]{6}$/);
  assert.deepEqual(labels.info(new Uint32Array(256).fill(1)).map(({ name }) => name), ODD);
  const clicks = ODD.flatMap((name) => [click(name, [1, 1, 1]), click(name, [2, 2, 2])]);
  const model = { ...SEVERAL, labels: JSON.parse(JSON.stringify(Object.fromEntries([["background", 0], ...Object.entries(values)]))) };
  const [{ params, values: answered }] = questions(state(clicks, { propagate: ODD }), model);
  const sent = JSON.parse(JSON.stringify({ ...params, result_extension: ".nii.gz" }));
  assert.deepEqual(Object.keys(sent), ["background", ...ODD, "propagate", "result_extension"]);
  for (const name of ODD) assert.deepEqual(sent[name], [[1, 1, 1], [2, 2, 2]]);
  assert.deepEqual([...answered.values()], ODD);
  assert.deepEqual(ODD.map((name) => trainerOf({ unet2d: {} }, name)), ODD.map(() => null));
});

test("a model is trained under its own name, or that of the weights that it shares", () => {
  const trainers = { unet2d: {}, __proto__: { constructor: {} } };
  assert.deepEqual(["unet2d", "unet2d_labels", "disc"].map((name) => trainerOf(trainers, name)), ["unet2d", "unet2d", null]);
});

test("a study is opened with the last one's model, or with the first where the server has that no more", () => {
  const models = { auto: { type: "segmentation" }, one: ONE, several: SEVERAL };
  assert.deepEqual([undefined, "several", "gone", "constructor"].map((last) => modelFor(models, last)), ["one", "several", "one", "one"]);
});

test("labels keep the values of the file, and new ones get what is free", () => {
  const labels = new Labels({ liver: 2 });
  assert.deepEqual([labels.value("spleen"), labels.value("liver"), labels.value("aorta")], [1, 2, 3]);
  const counts = new Uint32Array(256);
  counts[2] = counts[1] = 5;
  assert.deepEqual(labels.info(counts).map(({ name, idx }) => [name, idx]), [["spleen", 1], ["liver", 2]]);
  assert.match(labels.colour("something"), /^#[0-9a-f]{6}$/);
  const elsewhere = new Labels({ cyst: 1, liver: 2, something: 3 });
  assert.equal(elsewhere.colour("something"), labels.colour("something"), "the same in every study");
  const many = Array.from({ length: 60 }, (_, index) => elsewhere.colour(`lesion ${index}`));
  assert.equal(new Set([...many, elsewhere.colour("something")]).size, 61, "no two alike");
});

test("where a file has almost all values, further names get what is left, and the one too many is said when it is used", () => {
  const saved = Object.fromEntries(Array.from({ length: 253 }, (_, index) => [`rib ${index}`, index + 1]));
  const labels = new Labels(saved);
  labels.reserve(["rib 0", "spleen", "liver", "aorta"]);
  assert.deepEqual(["spleen", "liver", "aorta"].map((name) => labels.has(name)), [true, true, false]);
  assert.deepEqual([labels.value("liver"), labels.countOf("aorta", new Uint32Array(256).fill(7))], [255, 0]);
  assert.throws(() => labels.value("aorta"), /at most 255 labels: there is no room for aorta/);
});

test("a label map is written and read, with the frame of its image", () => {
  const head = new ArrayBuffer(352);
  const view = new DataView(head);
  view.setInt32(0, 348, true);
  [3, 2, 2, 1].forEach((count, axis) => view.setInt16(40 + 2 * axis, count, true));
  view.setInt16(70, 4, true);
  view.setFloat32(280, -2.5, true); // of the affine
  const file = writeLabels(head, Uint8Array.from([1, 0, 0, 3]));
  const { dims, values } = readLabels(file.buffer);
  assert.deepEqual([dims, [...values]], [[2, 2, 1], [1, 0, 0, 3]]);
  assert.equal(new DataView(file.buffer).getFloat32(280, true), -2.5);
  assert.throws(() => readLabels(head), /not of unsigned bytes/);
  assert.throws(() => readLabels(new ArrayBuffer(8)), /not NIfTI/);
});

test("a comment in a label map's head is read by others, and changes nothing of its voxels", () => {
  const head = new ArrayBuffer(352);
  const view = new DataView(head);
  view.setInt32(0, 348, true);
  [3, 2, 2, 1].forEach((count, axis) => view.setInt16(40 + 2 * axis, count, true));
  const plain = writeLabels(head, Uint8Array.from([1, 0, 0, 3]));
  assert.deepEqual([plain.length, plain[348]], [356, 0]);
  for (const comment of ["x", "12345678", "Zyste ä".repeat(30)]) {
    const { buffer } = writeLabels(head, Uint8Array.from([1, 0, 0, 3]), comment);
    assert.deepEqual([...readLabels(buffer).values], [1, 0, 0, 3]);
    const file = new DataView(buffer);
    const size = file.getInt32(352, true);
    assert.deepEqual([file.getUint8(348), size % 16, file.getInt32(356, true)], [1, 0, 6]);
    assert.equal(file.getFloat32(108, true), 352 + size);
    assert.equal(new TextDecoder().decode(new Uint8Array(buffer, 360, size - 8)).trimEnd(), comment);
  }
});

test("keys are commands, unless somebody writes", () => {
  const press = (key, more = {}) => ({ key, ctrlKey: false, metaKey: false, altKey: false, ...more });
  assert.equal(shortcut(press("z"), false, true).command, "undo");
  assert.equal(shortcut(press("Z", { ctrlKey: true }), false, false).command, "undo");
  assert.equal(shortcut(press("z"), true, false), null);
  assert.equal(shortcut(press("z", { ctrlKey: true }), true, false), null, "it undoes what was written");
  assert.equal(shortcut(press("s", { ctrlKey: true }), true, false).command, "save");
  assert.equal(shortcut(press("Enter"), false, false), null); // it presses the button that has the focus
  assert.equal(shortcut(press("Enter"), false, true).command, "inside");
  assert.deepEqual(shortcut(press("4"), false, true), { command: "label", number: 4 });
  assert.equal(shortcut(press("n", { ctrlKey: true }), false, true), null);
  const keys = SHORTCUTS.flatMap(({ keys: all }) => all);
  assert.equal(new Set(keys).size, keys.length);
});

test("an image that is hardly what the model is for is told", () => {
  const told = (modality, least, greatest = 900) => Boolean(doubt({ modality }, { least, greatest }));
  assert.deepEqual([told("CT", -1024), told("CT", -125), told("CT", 0)], [false, false, true]);
  assert.ok(told("CT", -1, 1), "normalised");
  assert.deepEqual([told("MR", 0), told("MR", -30), told("mr", -1024)], [false, false, true]);
  assert.equal(doubt({}, { least: 0, greatest: 1 }), "", "a model that does not say");
});

test("CT is offered windows of its own, other images are not", () => {
  const range = { low: 10, high: 900, least: 0, greatest: 1200 };
  assert.deepEqual(Object.keys(windows(range)), ["Auto", "Full range"]);
  assert.equal(Object.keys(windows({ ...range, least: -1024 }))[0], "Soft tissue");
});

test("a curve has a point for each epoch", () => {
  assert.equal(drawCurve([], 2), "");
  const [, points] = drawCurve([0.5, 0.25, 0.2], 5).match(/points="([^"]+)"/);
  assert.equal(points.split(" ").length, 3);
});
