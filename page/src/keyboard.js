/** The one list of shortcuts: what the keys do, and what the help says. */

/**
 * Of each: keys (as KeyboardEvent.key, small letters), what it is for, the name of the command, whether it is one of the
 * views alone, and whether holding the key does it again and again.
 */
export const SHORTCUTS = [
  { keys: ["enter"], text: "click inside, or paint, at the cursor", command: "inside", viewer: true },
  { keys: ["backspace"], text: "click outside, or erase, at the cursor", command: "outside", viewer: true },
  { keys: ["arrowleft"], text: "move the cursor in the first view; with Shift ten voxels", command: "left", viewer: true, repeats: true, shown: "← → ↑ ↓" },
  { keys: ["arrowright"], command: "right", viewer: true, repeats: true },
  { keys: ["arrowup"], command: "up", viewer: true, repeats: true },
  { keys: ["arrowdown"], command: "down", viewer: true, repeats: true },
  { keys: ["pageup", "."], text: "next slice, axial where all are shown", command: "sliceUp", repeats: true, shown: "Page up  ." },
  { keys: ["pagedown", ","], text: "previous slice", command: "sliceDown", repeats: true, shown: "Page down  ," },
  { keys: ["b"], text: "the brush, to paint by hand, or clicks again", command: "brush" },
  { keys: ["["], text: "a smaller, a larger brush", command: "smaller", repeats: true, shown: "[  ]" },
  { keys: ["]"], command: "larger", repeats: true },
  { keys: ["f"], text: "fill the label between the slices of the first view that hold it", command: "fill" },
  { keys: ["z"], text: "undo; with Shift redo", command: "undo", repeats: true },
  { keys: ["y"], text: "redo", command: "redo", repeats: true },
  { keys: ["1"], text: "choose a label", command: "label", shown: "1 … 9" },
  { keys: ["p"], text: "propagate to the neighbouring slices, or not", command: "propagate" },
  { keys: ["a"], text: "let a model that can do so segment everything", command: "automatic" },
  { keys: ["delete"], text: "clear the label", command: "erase" },
  { keys: ["h"], text: "hide the label, or show it", command: "hide" },
  { keys: ["l"], text: "lock the label, so that nothing changes it, or unlock it", command: "lock" },
  { keys: ["s"], text: "accept and save", command: "save" },
  { keys: ["d"], text: "download the label map", command: "download" },
  { keys: ["n"], text: "next study", command: "next" },
  { keys: ["w"], text: "next window", command: "window" },
  { keys: ["v"], text: "next layout of the views", command: "layout" },
  { keys: ["m"], text: "hide all labels, or show them", command: "mask" },
  { keys: ["+", "="], text: "zoom in", command: "zoomIn", repeats: true, shown: "+" },
  { keys: ["-"], text: "zoom out", command: "zoomOut", repeats: true },
  { keys: ["0"], text: "show everything again", command: "fit" },
  { keys: ["escape"], text: "give up a drag or a stroke; leave the brush", command: "cancel" },
  { keys: ["?"], text: "this list", command: "help" },
];

export const MOUSE = [
  ["Left click", "inside the structure"],
  ["Right or Shift+click", "outside of it"],
  ["Drag", "live preview; the click counts where it is released"],
  ["With the brush", "left paints the label, right or Shift+left erases it"],
  ["Ctrl+click", "only move the cursor"],
  ["Ctrl+drag", "move what is zoomed in"],
  ["Middle drag", "window: sideways its width, up and down its level"],
  ["Wheel", "slices; with Ctrl zoom"],
];

/** The shortcut of a key press, or null. typing: whether a text field has the focus; inViewer: whether the views have. */
export function shortcut({ key, ctrlKey, metaKey, altKey }, typing, inViewer) {
  const small = key.toLowerCase();
  const command = ctrlKey || metaKey;
  if (altKey || (command && !["z", "y", "s"].includes(small))) return null;
  if (typing && !(command && small === "s")) return null; // what else is typed is the field's, its undo, too
  if (/^[1-9]$/.test(small)) return { command: "label", number: Number(small) };
  const found = SHORTCUTS.find(({ keys }) => keys.includes(small));
  return found && (!found.viewer || inViewer) ? found : null;
}

/** Fill the help's list. */
export function fillHelp(list) {
  const rows = [...MOUSE, ...SHORTCUTS.filter(({ text }) => text).map(({ keys, shown, text }) => [shown ?? nice(keys[0]), text])];
  list.replaceChildren(
    ...rows.map(([keys, text]) => {
      const [row, term, meaning] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
      term.textContent = keys;
      meaning.textContent = text;
      row.append(term, meaning);
      return row;
    }),
  );
}

const nice = (key) => key[0].toUpperCase() + key.slice(1);
