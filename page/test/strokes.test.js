/** Strokes of the brush in an open study: what they change, undo, locks, and clicks before and after. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bases } from "../src/bases.js";
import { click, hold, opened, problems, server, shown, soon } from "../testing/study.js";

const display = (editor) => editor.display.join("");

/** Paint voxels, or erase them, from press to release. */
function stroke(editor, label, voxels, inside = true) {
  for (const voxel of voxels) editor.stroke(label, inside, [voxel]);
  editor.endStroke();
}

test("a stroke paints over other labels, and erases its own alone", async () => {
  const editor = opened({ base: [2, 2, 2, 0, 0, 1], labels: { spleen: 1, liver: 2 } });
  stroke(editor, "spleen", [2, 3]);
  stroke(editor, "liver", [1, 2, 3, 4], false);
  await editor.idle();
  assert.equal(shown(editor), "20110100");
  assert.deepEqual([...editor.counts.slice(0, 3)], [4, 3, 1]);
});

test("what is locked is not painted over, and a label that is locked meanwhile is not painted", async () => {
  const editor = opened({ base: [2, 2, 2, 0, 0, 1], labels: { spleen: 1, liver: 2 } });
  await editor.toggleLock("liver");
  editor.stroke("spleen", true, [1, 2, 3]);
  assert.equal(display(editor), "22210100");
  editor.endStroke();
  await editor.idle();
  assert.equal(shown(editor), "22210100");
  editor.stroke("spleen", true, [6, 7]);
  await editor.toggleLock("spleen");
  editor.endStroke();
  await editor.idle();
  assert.match(problems[0], /spleen is locked: unlock it first/);
  assert.deepEqual([shown(editor), display(editor)], ["22210100", "22210100"]);
});

test("a stroke is seen while it is painted, counts when it ends, and is one step of undo", async () => {
  const editor = opened();
  for (const voxel of [1, 2, 3]) editor.stroke("liver", true, [voxel]);
  assert.deepEqual([display(editor), shown(editor), editor.unsaved], ["01110000", "00000000", false]);
  editor.endStroke();
  await editor.idle();
  stroke(editor, "liver", [2], false);
  await editor.idle();
  assert.deepEqual([shown(editor), editor.unsaved], ["01010000", true]);
  editor.undo();
  await editor.idle();
  assert.deepEqual([shown(editor), display(editor)], ["01110000", "01110000"]);
  editor.undo();
  await editor.idle();
  assert.deepEqual([shown(editor), editor.unsaved, editor.history.canUndo], ["00000000", false, false]);
  for (let step = 0; step < 2; step++) editor.redo();
  await editor.idle();
  assert.deepEqual([shown(editor), server.asked.length], ["01010000", 0]);
});

test("a stroke that is given up leaves nothing behind, and one that changes nothing is no step", async () => {
  const editor = opened();
  editor.stroke("liver", true, [1, 2]);
  editor.cancelPreview();
  editor.endStroke();
  stroke(editor, "liver", [4, 5], false);
  await editor.idle();
  assert.deepEqual([display(editor), shown(editor), editor.history.canUndo], ["00000000", "00000000", false]);
});

test("a stroke waits for the answer to the click before it, and is seen all the while", async () => {
  const editor = opened({ labels: { spleen: 1, liver: 2 } });
  const release = hold();
  editor.add(click("liver", 0));
  await soon();
  stroke(editor, "spleen", [0, 1]);
  stroke(editor, "spleen", [1], false);
  editor.stroke("spleen", true, [7]);
  assert.equal(display(editor), "10000001");
  const seen = [];
  editor.on.change = (_, answered) => answered && seen.push(display(editor));
  release();
  await editor.idle();
  assert.deepEqual(new Set(seen), new Set(["10000001"]));
  assert.deepEqual([display(editor), shown(editor), editor.state.clicks.length], ["10000001", "10000000", 0]);
  for (const expected of ["11000000", "20000000", "00000000"]) {
    editor.undo();
    await editor.idle();
    assert.equal(shown(editor), expected);
  }
  assert.equal(server.asked.length, 1, "what was answered is not asked again");
});

test("undo takes a stroke back that still waits, and then the click", async () => {
  const editor = opened();
  const release = hold();
  editor.add(click("liver", 0));
  await soon();
  stroke(editor, "liver", [4]);
  editor.undo();
  assert.equal(editor.state.clicks.length, 1);
  release();
  await editor.idle();
  assert.deepEqual([shown(editor), display(editor)], ["10000000", "10000000"]);
});

test("a stroke that waits is not saved yet, whatever becomes of the click", async () => {
  const editor = opened();
  editor.add(click("liver", 0));
  await editor.idle();
  const release = hold();
  editor.add(click("liver", 1));
  await soon();
  for (let step = 0; step < 2; step++) editor.undo();
  assert.equal(editor.unsaved, false);
  stroke(editor, "liver", [4]);
  await soon();
  assert.deepEqual([editor.unsaved, shown(editor)], [true, "10000000"]);
  release();
  await editor.idle();
  assert.equal(shown(editor), "00001000");
});

test("where the click gets no answer the stroke stays", async () => {
  const editor = opened();
  server.down = true;
  editor.add(click("liver", 0));
  stroke(editor, "liver", [4]);
  await editor.idle();
  assert.deepEqual([shown(editor), problems.length], ["00001000", 1]);
});

test("a save waits for strokes, and holds them", async () => {
  const editor = opened();
  const release = hold();
  editor.add(click("liver", 0));
  await soon();
  stroke(editor, "liver", [4, 5]);
  const saving = editor.saving.save();
  release();
  await saving;
  assert.deepEqual([server.saved, editor.unsaved], [["10001100"], false]);
  stroke(editor, "liver", [5], false);
  await editor.idle();
  assert.equal(editor.unsaved, true);
  editor.undo();
  await editor.idle();
  assert.deepEqual([shown(editor), editor.unsaved], ["10001100", false]);
  editor.redo();
  await editor.saving.save();
  editor.undo();
  await editor.idle();
  assert.deepEqual([shown(editor), editor.unsaved], ["10001100", true], "a save of strokes alone is no step");
});

test("whoever waits for a click waits for the strokes, too, that come meanwhile", async () => {
  for (const act of [(editor) => editor.toggleLock("liver"), (editor) => editor.chooseModel("other")]) {
    const editor = opened();
    const release = hold();
    editor.add(click("liver", 0));
    await soon();
    const acting = act(editor);
    await soon();
    stroke(editor, "liver", [4, 5]);
    release();
    await acting;
    await editor.idle();
    assert.equal(shown(editor), "10001100");
  }
});

test("a label is cleared with the strokes that still wait", async () => {
  const editor = opened();
  const release = hold();
  editor.add(click("liver", 0));
  await soon();
  stroke(editor, "liver", [4, 5]);
  const erasing = editor.erase("liver");
  release();
  await erasing;
  await editor.idle();
  assert.equal(shown(editor), "00000000");
});

test("a click after a stroke goes on from what is there", async () => {
  const editor = opened({ labels: { spleen: 1, liver: 2 } });
  editor.add(click("spleen", 0));
  stroke(editor, "liver", [2, 3]);
  await editor.idle();
  editor.add(click("liver", 3));
  editor.add(click("spleen", 2));
  await editor.idle();
  assert.deepEqual(server.asked.map(({ start }) => start), [false, true, true]);
  assert.equal(shown(editor), "00120000", "each clicked label is as the server draws it from what it was sent");
  for (let step = 0; step < 2; step++) editor.undo();
  await editor.idle();
  assert.equal(shown(editor), "10220000");
});

test("a label that the model does not know is painted, and stays when others are clicked", async () => {
  const editor = opened({ model: "all", labels: { spleen: 1, liver: 2 } });
  stroke(editor, "tumour", [4, 6]);
  await editor.idle();
  editor.add(click("spleen", 2));
  await editor.idle();
  assert.equal(shown(editor), "11103230");
  await editor.saving.save();
  assert.deepEqual(server.saved, ["11103230"]);
});

test("of a study that was left no stroke is kept", async () => {
  const editor = opened();
  const release = hold();
  editor.add(click("liver", 0));
  await soon();
  stroke(editor, "liver", [4]);
  editor.close();
  release();
  await editor.idle();
  assert.deepEqual([shown(editor), problems], ["00000000", []]);
});

test("a step of undo holds what it changes, and no label map", async () => {
  const editor = opened({ base: [0, 0, 1], labels: { liver: 1 } });
  editor.add(click("liver", 0));
  const bases = [];
  for (const voxels of [[4, 5], [5, 6]]) {
    stroke(editor, "liver", voxels);
    await editor.idle();
    bases.push(editor.state.base);
  }
  await editor.saving.save();
  bases.push(editor.saved);
  editor.add(click("liver", 7));
  await editor.chooseModel("other");
  bases.push(editor.state.base);
  assert.deepEqual(bases.map(({ map }) => map), Array(4).fill(undefined));
  assert.deepEqual(bases.map(({ voxels }) => voxels.join()), ["4,5", "6", "6", "0,4,5,6,7"]);
  assert.equal(bases[0].from.voxels.join(), "0,2", "what the click made of what was opened");
});

test("a base has its map whichever was asked for before", () => {
  const bases = new Bases();
  const made = [[{ map: new Uint8Array(16) }, new Uint8Array(16)]];
  for (let step = 1; step < 40; step++) {
    const [base, map] = made[(7 * step) % made.length];
    const next = map.slice();
    for (let at = step % 3; at < 16; at += 1 + (step % 5)) next[at] = step;
    const changed = Uint32Array.from([step % 16]);
    if (step % 2) made.push([bases.holding(next, base), next]);
    else made.push([bases.changed(base, changed, Uint8Array.of(step)), map.slice().fill(step, changed[0], changed[0] + 1)]);
  }
  for (const [base, map] of [...made, ...made.reverse()]) assert.deepEqual(bases.mapOf(base), map);
  const [base] = made[5];
  assert.equal(bases.holding(bases.mapOf(base), base), base, "its own map makes no other one");
});
