/** The mouse over the views: clicks and drags of clicks, the wheel, and moving the cursor alone. */

/**
 * element: the views. viewer: Viewer. on: {drag(place, inside), drop(place, inside), move(place), scroll(axis, steps),
 * zoom(factor), giveUp()}, where a place is a voxel in shown order. Returns {cancel()}: gives a drag up.
 */
export function listen(element, viewer, on) {
  let drag = null; // {inside, place, depth} while a button is down; it stays in the view where it began

  element.addEventListener("pointerdown", (event) => {
    element.focus({ preventScroll: true });
    const place = viewer.voxelAt(event.clientX, event.clientY);
    if (!place || drag || event.button === 1) return;
    event.preventDefault();
    if (event.button === 0 && (event.ctrlKey || event.altKey || event.metaKey)) return on.move(place.shown);
    element.setPointerCapture(event.pointerId);
    drag = { inside: event.button === 0 && !event.shiftKey, place: place.shown, depth: place.depth };
    on.drag(drag.place, drag.inside);
  });

  element.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const place = viewer.voxelAt(event.clientX, event.clientY);
    if (!place || place.depth !== drag.depth || String(place.shown) === String(drag.place)) return;
    drag.place = place.shown;
    on.drag(drag.place, drag.inside);
  });

  element.addEventListener("pointerup", () => {
    if (!drag) return;
    const { place, inside } = drag;
    drag = null;
    on.drop(place, inside);
  });

  const cancel = () => {
    if (!drag) return;
    drag = null;
    on.giveUp();
  };
  element.addEventListener("pointercancel", cancel);
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      if (event.ctrlKey) on.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
      else if (event.deltaY) on.scroll(viewer.depthAt(event.clientX, event.clientY), event.deltaY < 0 ? 1 : -1);
    },
    { passive: false },
  );
  return { cancel };
}
