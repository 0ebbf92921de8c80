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
    const next = answers[path.split("/").at(-1)].shift();
    if (!next) throw new TypeError("no network");
    return Response.json(found(next));
  };
  const panel = new TrainingPanel(Object.fromEntries(names.map((name) => [name, element()])), (text) => said.push(text), () => ended++);
  return { panel, said, ended: () => ended };
}

/** Let what was asked be answered, and the next look begin. */
async function look() {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  await new Promise((done) => setImmediate(done));
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
