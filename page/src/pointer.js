/** The mouse over the views: clicks, drags of clicks or of the brush, the wheel, moving the cursor or the view alone, and the window. */

const NOTCH = 40; // pixels of the wheel that are one slice: a mouse's notch has more at once, a trackpad collects them
const PIXELS = [1, 40, 400]; // of WheelEvent.deltaMode

/**
 * element: the views. viewer: Viewer. on: {drag(place, inside, depth, before), drop(place, inside), move(place),
 * scroll(axis, steps), zoom(factor, place), pan(from, to), window(right, up), hover(mouse), giveUp()}, where a place is a
 * voxel in shown order (undefined where there is none), depth the shown axis of its view, before the place that the drag
 * comes from on a straight way (or the same), from and to are mm, right and up are pixels, and mouse is {at: [clientX,
 * clientY], erases: whether a click would be outside}, or null when it has left.
 * Returns {cancel()}: gives a drag up; returns whether there was one.
 */
export function listen(element, viewer, on) {
  let drag = null; // {inside, place, depth, left} while a button is down; it stays in the view where it began, or has left it
  let held = null; // {mm, depth}: of the image, what was under the mouse when it began to move the view
  let rolled = 0;

  const dragTo = ({ clientX, clientY }) => {
    const place = viewer.voxelAt(clientX, clientY);
    const { left } = drag;
    drag.left = place?.depth !== drag.depth;
    if (drag.left || String(place.shown) === String(drag.place)) return;
    const before = left ? place.shown : drag.place;
    drag.place = place.shown;
    on.drag(drag.place, drag.inside, drag.depth, before);
  };

  // Browsers report as often as they draw: where the mouse was between is in the event, too.
  const way = (event) => {
    const events = event.getCoalescedEvents?.() ?? [];
    return events.length ? events : [event];
  };

  const panTo = ({ clientX, clientY }) => {
    const under = viewer.mmAt(clientX, clientY);
    if (under?.depth === held.depth) on.pan(held.mm, under.mm);
  };

  element.addEventListener("pointerdown", (event) => {
    element.focus({ preventScroll: true });
    const place = viewer.voxelAt(event.clientX, event.clientY);
    if (event.button === 1) event.preventDefault(); // browsers scroll with it
    if (!place || drag || held || event.button === 1) return;
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    if (event.button === 0 && (event.ctrlKey || event.altKey || event.metaKey)) {
      on.move(place.shown);
      held = viewer.mmAt(event.clientX, event.clientY);
      return;
    }
    drag = { inside: event.button === 0 && !event.shiftKey, place: place.shown, depth: place.depth, left: false };
    on.drag(drag.place, drag.inside, drag.depth, drag.place);
  });

  element.addEventListener("pointermove", (event) => {
    if (drag) for (const one of way(event)) dragTo(one);
    else if (held) panTo(event);
    else if (event.buttons & 4) on.window(event.movementX, -event.movementY);
  });

  element.addEventListener("pointerup", () => {
    held = null;
    if (!drag) return;
    const { place, inside } = drag;
    drag = null;
    on.drop(place, inside);
  });

  for (const kind of ["pointerdown", "pointermove", "pointerup"]) {
    element.addEventListener(kind, ({ clientX, clientY, shiftKey }) => {
      on.hover({ at: [clientX, clientY], erases: drag ? !drag.inside : shiftKey });
    });
  }
  element.addEventListener("pointerleave", () => on.hover(null));

  const cancel = () => {
    const something = drag || held;
    held = null;
    if (drag) {
      drag = null;
      on.giveUp();
    }
    return Boolean(something);
  };
  element.addEventListener("pointercancel", cancel);
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const place = viewer.voxelAt(event.clientX, event.clientY);
      if (event.ctrlKey) return on.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, place?.shown);
      const pixels = event.deltaY * PIXELS[event.deltaMode];
      rolled = rolled * pixels < 0 ? pixels : rolled + pixels;
      if (Math.abs(rolled) < NOTCH) return;
      rolled = 0;
      on.scroll(viewer.depthAt(event.clientX, event.clientY), pixels < 0 ? 1 : -1);
      if (drag) dragTo(event); // in another slice now
    },
    { passive: false },
  );
  return { cancel };
}
