import assert from "node:assert/strict";
import { test } from "node:test";
import { dragged, showing, WHOLE, zoomed } from "../src/zoom.js";

const FAR = [[-900, -600], [200, 500], [1000, 1400]]; // mm of an image that does not hold the world's 0
const place = [-700, 480, 1100];
const drawn = ({ zoom, pan }, at) => at.map((mm, axis) => zoom * mm + pan[axis]);
const near = (one, other) => one.every((mm, axis) => Math.abs(mm - other[axis]) < 1e-6);

test("a place that is zoomed in on stays where it is, however far it is from the world's 0", () => {
  let view = WHOLE;
  for (let step = 0; step < 20; step++) {
    view = zoomed(view, 1.25, place, FAR);
    assert.ok(near(drawn(view, place), place), `after ${step + 1} steps`);
  }
  assert.equal(view.zoom, 12);
});

test("whoever zooms out elsewhere sees the image on all sides, and all of it in the end", () => {
  let view = zoomed(WHOLE, 4, place, FAR);
  for (const factor of [0.8, 0.8, 0.5, 0.1]) {
    view = zoomed(view, factor, FAR.map(([low]) => low), FAR);
    FAR.forEach(([low, high], axis) => {
      assert.ok(view.zoom * low + view.pan[axis] <= low + 1e-6);
      assert.ok(view.zoom * high + view.pan[axis] >= high - 1e-6);
    });
  }
  assert.ok(view.zoom === 1 && near(view.pan, [0, 0, 0]));
});

test("a place that is dragged is drawn where another one was, and no further than the image fills the views", () => {
  const view = zoomed(WHOLE, 4, place, FAR);
  const to = [-690, 475, 1130];
  assert.ok(near(drawn(dragged(view, place, to, FAR), place), drawn(view, to)));
  const edge = dragged(view, place, [9999, 480, 1100], FAR);
  assert.ok(near(drawn(edge, [-900, 480, 1100]), [-900, ...drawn(view, place).slice(1)]));
  assert.ok(near(dragged(WHOLE, place, to, FAR).pan, [0, 0, 0]));
});

test("a cursor out of sight is followed only along the axes in which it moves", () => {
  const view = zoomed(WHOLE, 4, place, FAR);
  assert.ok(near(showing(view, [-899, 480, 1101], FAR, [2]).pan, view.pan));
});

test("a place that is seen moves no view, and one that is not moves it no further than it must", () => {
  const view = zoomed(WHOLE, 4, place, FAR);
  assert.ok(near(showing(view, [-705, 470, 1110], FAR).pan, view.pan));
  const moved = showing(view, [-700, 480, 1390], FAR);
  assert.ok(near(moved.pan.slice(0, 2), view.pan.slice(0, 2)));
  assert.ok(near(drawn(moved, [-700, 480, 1390]).slice(2), [1400]), "at the edge");
});
