/** One open study: clicks, models, locks, saves, and what fails on the way. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Outdated } from "../src/api.js";
import { clickable, decidedIn, propagated } from "../src/clicks.js";
import { decompress, readLabels } from "../src/nifti.js";
import { click, hold, latencies, MODELS, opened, problems, server, SHAPE, shown, soon } from "../testing/study.js";

test("what is clicked while a save runs stays, and is not saved yet", async () => {
  const editor = opened();
  editor.add(click("liver", 0));
  await editor.idle();
  const release = hold();
  const saving = editor.saving.save();
  await soon(); // the label is on its way
  editor.add(click("liver", 1));
  assert.equal(editor.saving.save(), saving, "a save that runs is not begun again");
  release();
  await saving;
  await editor.idle();
  assert.deepEqual(server.saved, ["10000000"]);
  assert.equal(shown(editor), "11000000");
  assert.equal(editor.state.clicks.length, 2);
  assert.equal(editor.unsaved, true);
  await editor.saving.save();
  assert.deepEqual(server.saved, ["10000000", "11000000"]);
  assert.equal(editor.unsaved, false);
});

test("whoever leaves waits for a save that runs, and hears that it failed", async () => {
  const editor = opened();
  await editor.saving.settled();
  editor.add(click("liver", 0));
  await editor.idle();
  server.down = true;
  const saving = editor.saving.save();
  await assert.rejects(editor.saving.settled(), /does not answer/);
  await assert.rejects(saving, /does not answer/);
  assert.equal(editor.unsaved, true);
  await editor.saving.settled();
});

test("with another model all that the last one made stays, and is still to be saved", async () => {
  const editor = opened();
  editor.add(click("tumour", 7));
  await editor.chooseModel("all");
  editor.add(click("liver", 4));
  await editor.idle();
  assert.equal(shown(editor)[7], "1", "a label that the new model does not know");
  editor.undo();
  editor.undo();
  await editor.idle();
  assert.equal(editor.state.model, "one");
  assert.deepEqual([shown(editor), editor.state.clicks.length], ["10000000".split("").reverse().join(""), 1]);
});

test("a label that a model does not know stays where the model finds another", async () => {
  const editor = opened({ labels: { spleen: 1, liver: 2 } });
  editor.add(click("tumour", 4));
  await editor.chooseModel("all");
  editor.add(click("spleen", 2));
  await editor.idle();
  assert.equal(shown(editor), "11103200");
  assert.equal(editor.labels.value("tumour"), 3);
  server.preview = { axis: 2, slice: 0, shape: [8, 1], values: [2], lengths: [8] };
  editor.preview(click("liver", 6));
  await editor.idle();
  assert.equal(editor.display.join("")[4], "3", "nor is it drawn over by a preview");
  await editor.chooseModel("one");
  editor.add(click("spleen", 4));
  await editor.idle();
  assert.equal(shown(editor)[4], "1", "a click for one structure takes what it hits");
});

test("a label that a model finds unasked can be taken away, and the others stay", async () => {
  const editor = opened({ model: "all", labels: { spleen: 1, liver: 2 } });
  editor.add(click("spleen", 2));
  await editor.idle();
  await editor.erase("liver");
  await editor.idle();
  assert.equal(shown(editor), "11100000");
  editor.undo();
  await editor.idle();
  assert.equal(shown(editor), "11102200");
});

test("a locked label stays where others are clicked, and unlocking it changes nothing", async () => {
  const editor = opened({ labels: { spleen: 1 }, base: [1, 1, 1, 1] });
  await editor.toggleLock("spleen");
  editor.add(click("liver", 2));
  editor.add(click("liver", 5));
  await editor.idle();
  assert.equal(shown(editor), "11110200");
  await editor.toggleLock("spleen");
  await editor.idle();
  assert.deepEqual([shown(editor), editor.isLocked("spleen")], ["11110200", false]);
  editor.add(click("liver", 3));
  await editor.idle();
  assert.equal(shown(editor), "11120000", "clicks take it again");
  for (let step = 0; step < 2; step++) editor.undo(); // the last click, and the unlocking
  await editor.idle();
  assert.deepEqual([shown(editor), editor.isLocked("spleen"), editor.state.clicks.length], ["11110200", true, 2]);
});

test("clicks go on being corrected where a label was unlocked that they do not concern", async () => {
  const editor = opened({ labels: { spleen: 1 }, base: [1, 1] });
  await editor.toggleLock("spleen");
  editor.add(click("liver", 5));
  await editor.toggleLock("spleen");
  await editor.idle();
  assert.deepEqual([shown(editor), editor.state.clicks.length], ["11000200", 1]);
});

test("a locked label is not found elsewhere, cleared, or drawn over by a preview", async () => {
  const editor = opened({ model: "all", labels: { spleen: 1, liver: 2 }, base: [0, 0, 0, 0, 0, 0, 1, 1] });
  await editor.toggleLock("spleen");
  editor.add(click("liver", 7));
  await editor.idle();
  assert.equal(shown(editor), "00002211");
  await assert.rejects(editor.erase("spleen"), /spleen is locked: unlock it first/);
  server.preview = { axis: 2, slice: 0, shape: SHAPE.slice(0, 2), values: [1, 2], lengths: [2, 6] };
  editor.preview(click("liver", 6));
  await editor.idle();
  assert.equal(editor.display.join(""), "00222211");
  editor.cancelPreview();
  await editor.saving.save();
  assert.deepEqual([server.saved, editor.isLocked("spleen")], [["00002211"], true]);
});

test("of a model of named labels all are propagated, or none", () => {
  const editor = opened({ model: "slices", labels: { spleen: 1, liver: 2 } });
  const pressed = () => ["spleen", "liver"].map((label) => propagated(editor.state, editor.model, label));
  editor.togglePropagate("spleen");
  assert.deepEqual(pressed(), [true, true]);
  editor.togglePropagate("liver");
  assert.deepEqual(pressed(), [false, false]);
});

test("organs that a model found by itself stay when another one goes on", async () => {
  const editor = opened({ model: "all", labels: { spleen: 1, liver: 2 } });
  await editor.segmentAll();
  await editor.chooseModel("one");
  await editor.idle();
  assert.equal(shown(editor), "11002200");
  assert.equal(editor.unsaved, true);
});

test("a model that is chosen before anything is clicked leaves nothing to be saved", async () => {
  const editor = opened({ base: [1], labels: { liver: 1 } });
  await editor.chooseModel("other");
  assert.equal(editor.unsaved, false);
});

test("clicks that got no answer go together, the mask is that of those that are left, and redo brings them back", async () => {
  const editor = opened();
  editor.add(click("liver", 0));
  await editor.idle();
  server.down = true;
  editor.add(click("liver", 1));
  editor.add(click("liver", 2));
  await editor.idle();
  assert.deepEqual([shown(editor), editor.state.clicks.length], ["10000000", 1]);
  assert.equal(problems.length, 1);
  server.down = false;
  editor.redo();
  editor.redo();
  await editor.idle();
  assert.deepEqual([shown(editor), editor.state.clicks.length], ["11100000", 3]);
});

test("a click whose answer fails is not passed over by a save", async () => {
  const editor = opened();
  editor.add(click("liver", 0));
  await editor.idle();
  server.down = true;
  editor.add(click("liver", 1));
  await assert.rejects(editor.saving.save(), /Not saved, since the last click had no answer/);
  assert.deepEqual(server.saved, []);
});

test("an undo whose answer fails is taken back", async () => {
  const editor = opened();
  editor.add(click("liver", 0)); // superseded, so that nobody has its answer
  editor.add(click("liver", 1));
  await editor.idle();
  server.down = true;
  editor.undo();
  await editor.idle();
  assert.deepEqual([shown(editor), editor.state.clicks.length], ["11000000", 2]);
  server.down = false;
  editor.undo();
  await editor.idle();
  assert.deepEqual([shown(editor), editor.state.clicks.length], ["10000000", 1]);
});

test("segment all adds what a saved label lacks, and changes nothing of what it has", async () => {
  const editor = opened({ model: "all", labels: { spleen: 1, liver: 2, tumour: 3 }, base: [0, 0, 0, 0, 3, 0, 2] });
  await editor.segmentAll();
  await editor.idle();
  assert.equal(shown(editor), "11003020");
  assert.equal(server.asked[0].start, false, "asked from nothing, for with a start there is nothing to find");
  assert.equal(editor.unsaved, true);
  editor.undo();
  await editor.idle();
  assert.equal(shown(editor), "00003020");
});

test("segment all is asked once, and given up with a sentence if the map has changed meanwhile", async () => {
  const editor = opened({ model: "all", labels: { spleen: 1, liver: 2 }, base: [0, 0, 0, 0, 0, 0, 2] });
  const release = hold();
  const both = [editor.segmentAll(), editor.segmentAll()];
  await soon();
  assert.deepEqual(latencies, [null]);
  await editor.erase("liver").catch(() => {});
  release();
  await Promise.allSettled(both);
  assert.equal(server.asked.length, 1);
  await assert.rejects(both[0], /changed meanwhile/);
});

test("whatever becomes of a click, nobody waits for its time for ever", async () => {
  const editor = opened();
  const release = hold();
  editor.add(click("liver", 0));
  await soon();
  editor.undo();
  release();
  await editor.idle();
  server.down = true;
  editor.add(click("liver", 1));
  await editor.idle();
  assert.deepEqual(latencies, [null, "ms", null, undefined]);
});

test("a label that somebody else has saved since is replaced only when that is wished", async () => {
  const [mine, theirs] = [opened(), opened()];
  theirs.add(click("liver", 5));
  await theirs.saving.save();
  mine.add(click("liver", 0));
  await assert.rejects(mine.saving.save(), Outdated);
  assert.deepEqual([server.saved.length, mine.unsaved], [1, true]);
  await mine.saving.save(true);
  assert.equal(server.saved.at(-1), "10000000");
  mine.add(click("liver", 1));
  await mine.saving.save();
  assert.equal(server.saved.length, 3, "one's own last label is no obstacle");
  theirs.add(click("liver", 6));
  await assert.rejects(theirs.saving.save(), Outdated);
});

test("a saved label of which nothing is left can be taken away", async () => {
  const editor = opened();
  assert.equal(await editor.saving.emptied(), false, "there is none yet");
  editor.add(click("liver", 0));
  await editor.saving.save();
  assert.equal(await editor.saving.emptied(), false);
  await editor.erase("liver");
  assert.equal(await editor.saving.emptied(), true);
  await editor.saving.remove();
  assert.deepEqual([server.version, editor.unsaved, await editor.saving.emptied()], [null, false, false]);
});

test("a label that somebody else has saved since is taken away only when that is wished", async () => {
  const mine = opened();
  mine.add(click("liver", 0));
  await mine.saving.save();
  const theirs = opened({ base: [1], labels: { liver: 1 } });
  theirs.add(click("liver", 5));
  await theirs.saving.save();
  await mine.erase("liver");
  await assert.rejects(mine.saving.remove(), Outdated);
  assert.deepEqual([server.version, mine.unsaved], ['"2"', true]);
  await mine.saving.remove(true);
  assert.deepEqual([server.version, mine.unsaved], [null, false]);
});

test("a label that somebody else has taken away already is taken away", async () => {
  const editor = opened();
  editor.add(click("liver", 0));
  await editor.saving.save();
  server.version = null;
  await editor.erase("liver");
  assert.equal(await editor.saving.remove(), "removed");
  assert.deepEqual([editor.saving.version, editor.unsaved], [null, false]);
});

test("a removal that runs is not begun again, and what is clicked meanwhile stays", async () => {
  const editor = opened();
  editor.add(click("liver", 0));
  await editor.saving.save();
  await editor.erase("liver");
  await editor.idle();
  const release = hold();
  const removing = editor.saving.remove();
  assert.equal(await editor.saving.emptied(), false, "nobody need be asked again");
  assert.equal(editor.saving.save(), removing);
  editor.add(click("liver", 2));
  release();
  assert.equal(await removing, "removed");
  await editor.idle();
  assert.deepEqual([server.saved.length, editor.state.clicks.length, editor.unsaved], [1, 1, true]);
});

test("segment all of an empty study is corrected by clicks without a start", async () => {
  const editor = opened({ model: "all", labels: { spleen: 1, liver: 2 } });
  await editor.segmentAll();
  editor.add(click("liver", 3));
  await editor.idle();
  assert.equal(shown(editor), "11022200");
  assert.deepEqual(server.asked.map(({ start }) => start), [false, false]);
});

test("models that take no clicks are not offered for clicking", () => {
  assert.deepEqual(clickable(MODELS), ["one", "other", "all", "slices", "odd"]);
});

test("of a slice a preview decides labels with a click inside there, in 3D all that are clicked", () => {
  const clicks = [{ ...click("liver", 1), position: [1, 0, 5] }, { ...click("spleen", 1, false), position: [1, 0, 6] }];
  const decided = (model, slice) => [...decidedIn({ clicks }, MODELS[model], slice, 2)];
  assert.deepEqual([decided("one", 5), decided("one", 6), decided("all", 6)], [["liver"], [], ["liver", "spleen"]]);
});

test("a click outside in a slice without one inside is not previewed, which would show the mask erased", async () => {
  const editor = opened({ base: [1, 1, 1], labels: { liver: 1 } });
  server.preview = { axis: 2, slice: 0, shape: [8, 1], values: [0], lengths: [8] };
  editor.preview(click("liver", 1, false));
  await editor.idle();
  assert.equal(editor.display.join(""), "11100000");
  editor.preview(click("liver", 1));
  await editor.idle();
  assert.equal(editor.display.join(""), "00000000", "with one inside it is the slice's answer");
});

test("labels with names that every object knows are clicked, previewed and saved", async () => {
  const editor = opened({ model: "odd", labels: JSON.parse('{ "__proto__": 1, "constructor": 2 }') });
  for (const [x, label] of ["__proto__", "constructor"].entries()) editor.add(click(label, x));
  await editor.idle();
  assert.deepEqual([problems, shown(editor)], [[], "12000000"]);
  server.preview = { axis: 2, slice: 0, shape: [8, 1], values: [2], lengths: [8] };
  editor.preview(click("constructor", 4));
  await editor.idle();
  assert.deepEqual([problems, editor.display.join("")], [[], "22222222"]);
  editor.cancelPreview();
  await editor.saving.save();
  assert.deepEqual(server.saved, ["12000000"]);
});

test("a preview that fails before anything is asked is told, and a save goes on", async () => {
  const editor = opened();
  editor.add(click("liver", 0));
  editor.preview({ label: "liver", inside: true }); // without a position
  await editor.idle();
  assert.equal(problems.length, 1);
  await editor.saving.save();
  assert.deepEqual(server.saved, ["10000000"]);
});

test("where the screen fails, a click is answered, told and saved nevertheless", async () => {
  const editor = opened();
  let failures = 2;
  editor.on.change = () => {
    if (failures-- > 0) throw new Error("no memory for the views");
  };
  assert.throws(() => editor.add(click("liver", 0)), /no memory/);
  await editor.idle();
  assert.deepEqual([problems, shown(editor)], [["no memory for the views"], "10000000"]);
  await editor.saving.save();
  assert.deepEqual(server.saved, ["10000000"]);
});

test("of a study that was left nothing more is asked, told or saved", async () => {
  const editor = opened();
  const release = hold();
  editor.add(click("liver", 0));
  await soon();
  editor.add(click("liver", 1)); // waits for the one before
  const saving = editor.saving.emptied().then(() => editor.saving.save());
  editor.close();
  release();
  await assert.rejects(saving, /not saved: the study was left/);
  editor.add(click("liver", 2));
  await editor.idle();
  assert.deepEqual([server.asked.length, server.saved, latencies, problems], [1, [], [null], []]);
});

test("what waits for an answer when a study is left changes nothing later, and is not asked for", async () => {
  const editor = opened({ model: "all", labels: { spleen: 1, liver: 2 }, base: [0, 0, 0, 0, 0, 0, 2] });
  server.version = editor.saving.version = '"7"';
  const release = hold();
  editor.add(click("liver", 4));
  const later = [editor.segmentAll(), editor.erase("liver"), editor.toggleLock("spleen"), editor.chooseModel("one")];
  await soon();
  editor.close();
  release();
  await Promise.all(later);
  assert.deepEqual([server.asked.length, await editor.saving.emptied()], [1, false]);
  await assert.rejects(editor.saving.remove(), /the study was left/);
  assert.equal(server.version, '"7"');
});

test("a model that is not there is refused, and the one before goes on", async () => {
  const editor = opened();
  for (const name of ["gone", "constructor"]) await assert.rejects(editor.chooseModel(name), /no model/);
  editor.add(click("liver", 0));
  await editor.idle();
  assert.deepEqual([editor.state.model, shown(editor)], ["one", "10000000"]);
});

test("what is downloaded is the map as it is, with the names of its values, and nothing is saved", async () => {
  const editor = opened({ labels: { spleen: 3 }, base: [3, 3] });
  editor.add(click("liver", 4));
  editor.stroke("cyst", true, [1]);
  editor.endStroke();
  const { file, names } = await editor.saving.download();
  const content = await decompress(file);
  const { dims, values } = readLabels(content);
  assert.deepEqual([dims, values.join("")], [SHAPE, shown(editor)]);
  assert.equal(shown(editor), "31002000");
  assert.deepEqual(names.map(({ name, idx }) => [name, idx]), [["cyst", 1], ["liver", 2], ["spleen", 3]]);
  const comment = new TextDecoder().decode(new Uint8Array(content, 360, new DataView(content).getInt32(352, true) - 8));
  assert.deepEqual(JSON.parse(comment), { labels: { cyst: 1, liver: 2, spleen: 3 } });
  assert.deepEqual([server.saved, editor.unsaved], [[], true]);
});

test("of a study without labels there is nothing to download", async () => {
  await assert.rejects(opened().saving.download(), /nothing to download yet/);
});
