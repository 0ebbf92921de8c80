/** The panel of a training against a server that says how it goes, or does not answer. */

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { TrainingPanel } from "../src/training.js";

const found = (status) => ({ status, problem: "", total_epochs: 2, epochs: [{ loss: 1 }] });

function opened(answers) {
  const element = () => ({ addEventListener() {}, removeAttribute() {} });
  const names = ["form", "epochs", "train", "stop", "state", "progress", "curve"];
  const said = [];
  let ended = 0;
  globalThis.fetch = async (path) => {
    const next = await answers[path.split("/").at(-1)].shift();
    if (!next) throw new TypeError("no network");
    return Response.json(found(next));
  };
  const elements = Object.fromEntries(names.map((name) => [name, element()]));
  const panel = new TrainingPanel(elements, (text) => said.push(text), () => ended++);
  return { panel, elements, said, ended: () => ended };
}

/** Let what was asked be answered. */
async function answered() {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  await new Promise((done) => setImmediate(done));
}

/** Let what was asked be answered, and the next look begin. */
async function look() {
  await answered();
  mock.timers.tick(1500);
}

test("a training's end is told, though a look in between has failed, and that is said once", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { panel, said, ended } = opened({ one: ["RUNNING", null, null, "DONE"] });
  panel.follow("one");
  for (let turn = 0; turn < 5; turn++) await look();
  mock.timers.reset();
  assert.match(said[0], /does not answer/);
  assert.deepEqual([said.length, ended()], [2, 1]);
  assert.match(said[1], /done/);
});

test("who looks at another model hears nothing of a training that goes on", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { panel, said, ended } = opened({ one: ["RUNNING"], other: ["none"] });
  panel.follow("one");
  await look();
  panel.follow("other");
  await look();
  mock.timers.reset();
  assert.deepEqual([said, ended()], [[], 0]);
});

test("a training whose first look fails is followed nevertheless", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { panel, said, ended } = opened({ one: [null, "RUNNING", "DONE"] });
  panel.follow("one");
  for (let turn = 0; turn < 4; turn++) await look();
  mock.timers.reset();
  assert.match(said[0], /does not answer/);
  assert.deepEqual([said.length, ended()], [2, 1]);
});

test("the end of a training is told to who opens another study with its model meanwhile", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { panel, said, ended } = opened({ one: ["RUNNING", "DONE"] });
  for (let study = 0; study < 2; study++) {
    panel.follow("one");
    await answered();
  }
  mock.timers.reset();
  assert.match(said[0], /done/);
  assert.equal(ended(), 1);
});

test("of a training that goes on nothing is shown beside a model that is not trained", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { panel, elements, said } = opened({ one: ["RUNNING"] });
  panel.follow("one");
  await look();
  assert.deepEqual([elements.stop.hidden, elements.state.textContent], [false, "running · 1 of 2"]);
  panel.follow(null);
  mock.timers.reset();
  const { train, stop, state, curve } = elements;
  assert.deepEqual([train.disabled, train.hidden, stop.hidden, state.textContent, curve.hidden], [true, false, true, "", true]);
  assert.deepEqual(said, []);
});

test("what a look finds that a newer one has overtaken is not shown", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  let late;
  const { panel, elements, said } = opened({ one: [new Promise((done) => (late = done)), "RUNNING", "RUNNING"] });
  panel.follow("one");
  panel.follow("one");
  await look();
  late("none");
  await answered();
  assert.deepEqual([said, elements.state.textContent], [[], "running · 1 of 2"]);
  panel.follow(null);
  mock.timers.reset();
});
