/** What the user is told while an answer is awaited. */

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Teller } from "../src/telling.js";

function told() {
  const classes = new Set();
  const classList = { toggle: (name, on) => (on ? classes.add(name) : classes.delete(name)) };
  const latency = { textContent: "", classList };
  return { teller: new Teller({ latency }), latency, waiting: () => classes.has("waiting") };
}

test("whoever waits long sees for how long, and then what it took", () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const { teller, latency, waiting } = told();
  teller.showLatency("preview", 112.4);
  teller.showLatency("click", null);
  assert.equal(latency.textContent, "preview 112 ms · click …");
  assert.equal(waiting(), false);
  for (let second = 1; second <= 12; second++) {
    mock.timers.tick(1000);
    assert.equal(latency.textContent, `preview 112 ms · click … ${second} s`);
    assert.equal(waiting(), true);
  }
  teller.showLatency("click", 12529);
  assert.equal(latency.textContent, "preview 112 ms · click 12.5 s");
  assert.equal(waiting(), false);
  mock.timers.tick(5000);
  assert.equal(latency.textContent, "preview 112 ms · click 12.5 s");
  mock.timers.reset();
});

test("how far an answer is stands behind its seconds, and the next one begins anew", () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const { teller, latency } = told();
  teller.showLatency("click", null);
  mock.timers.tick(2000);
  teller.showFar("click", "38 %");
  assert.equal(latency.textContent, "click … 2 s, 38 %");
  teller.showLatency("click", 2500);
  assert.equal(latency.textContent, "click 2500 ms");
  teller.showLatency("click", null);
  assert.equal(latency.textContent, "click …");
  mock.timers.reset();
});

test("of a study that was left nothing is counted on", () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const { teller, latency, waiting } = told();
  teller.showLatency("click", null);
  mock.timers.tick(3000);
  teller.forgetLatencies();
  mock.timers.tick(3000);
  assert.equal(latency.textContent, "");
  assert.equal(waiting(), false);
  teller.showLatency("click", undefined);
  assert.equal(latency.textContent, "");
  mock.timers.reset();
});
