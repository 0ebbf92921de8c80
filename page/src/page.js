/** The page: one viewer, one open study, and the controls around them. */

import * as api from "./api.js";
import { Brush, swept } from "./brush.js";
import { answersFirst, canPropagate, clickable, knows, labelsOf, modelFor, propagated } from "./clicks.js";
import { Editor } from "./editor.js";
import { fillHelp, shortcut } from "./keyboard.js";
import { Labels } from "./labels.js";
import { Looks } from "./looks.js";
import { decompress, readLabels, voxelMl } from "./nifti.js";
import { fillSelect, showLabels, showStudies } from "./panels.js";
import { listen } from "./pointer.js";
import { towards } from "./sides.js";
import { Teller } from "./telling.js";
import { trainerOf, TrainingPanel } from "./training.js";
import { Viewer } from "./viewer.js";
import { doubt } from "./windows.js";

const $ = (id) => document.getElementById(id);
const viewer = new Viewer($("slices"), $("marks"));
const looks = new Looks(viewer, { window: $("window"), layout: $("layout"), opacity: $("opacity") });
const brush = new Brush(viewer, { button: $("brush"), radius: $("radius"), size: $("size") });
const teller = new Teller({ status: $("status"), latency: $("latency") });
const say = (sentence, isProblem) => teller.say(sentence, isProblem);
const attempt = (action) => teller.attempt(action);
let server; // of /info
let studies = [];
let editor = null;
let active = null; // the label that clicks are for
let hidden = new Set(); // names of labels
let drawn = []; // shown planes of the live preview
let modelShown = null; // whose labels and buttons are on the screen

// Studies

async function refreshStudies() {
  studies = await api.studies();
  const labelled = studies.filter((study) => study.labelled).length;
  $("studies-count").textContent = `${labelled} of ${studies.length} saved`;
  showStudies($("studies"), studies, editor?.image, (image) => attempt(() => open(image)));
}

let opening = 0;
async function open(image) {
  const turn = ++opening;
  $("unopened").hidden = true;
  $("loading-text").textContent = `Opening ${image}`;
  $("loading").hidden = false;
  try {
    const [{ file, axis }, saved] = await Promise.all([api.image(image), api.label(image), viewer.start()]);
    const map = saved && readLabels(await decompress(saved.blob));
    const volume = await viewer.read(file, image);
    await editor?.settled();
    if (turn !== opening) return;
    // Whatever was clicked meanwhile counts, too. From here on nothing waits.
    if (editor?.unsaved && !window.confirm(`The label of ${editor.image} is not saved. Leave it?`)) return;
    const frame = viewer.frameOf(volume);
    const labels = new Labels(saved?.labels);
    const base = new Uint8Array(frame.size);
    if (map) map.values.forEach((value, at) => value && (base[frame.offset(sourceIndex(at, frame.dims))] = value));
    const model = modelFor(server.models, editor?.state.model);
    const latency = (kind, ms) => teller.showLatency(kind, ms);
    const on = { change, preview: showPreview, latency, problem: (sentence) => say(sentence, true) };
    const known = { image, head: file.slice(0, 352), frame, axis, models: server.models };
    const opened = new Editor({ ...known, labels, base, version: saved?.version ?? null, model, on });
    opened.voxelMl = voxelMl(file);
    // Up to here a study that is too large for the browser leaves the last one open, and from here on none.
    pointer.cancel();
    editor?.close();
    editor = null;
    viewer.open(volume);
    editor = opened;
    hidden = new Set();
    teller.forgetLatencies();
    $("study-name").textContent = image;
    document.title = `${image} – clickseg`;
    showModel(model);
    looks.open();
    change(editor, true);
    showStudies($("studies"), studies, image, (other) => attempt(() => open(other)));
    $("studies").querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
  } finally {
    if (turn === opening) $("loading").hidden = true;
    if (turn === opening && editor) location.hash = new URLSearchParams({ study: editor.image });
    if (!editor) for (const id of ["study-name", "labels", "place", "saved"]) $(id).replaceChildren();
  }
}

/** Open the first study that the server does not refuse. What is wrong with those before stays to be read. */
async function openFirst(images) {
  const refused = [];
  for (const image of images) {
    const turn = opening + 1;
    try {
      await open(image);
      break;
    } catch (error) {
      if (!(error instanceof api.Refused) || turn !== opening) throw error; // or the user has chosen one meanwhile
      refused.push(`${image} is not opened: ${error.message}`);
    }
  }
  $("unopened").textContent = refused.join("\n");
  $("unopened").hidden = !refused.length;
}

function sourceIndex(at, [nx, ny]) {
  const row = Math.floor(at / nx);
  return [at % nx, row % ny, Math.floor(row / ny)];
}

async function next() {
  await editor?.settled();
  const found = await api.next($("strategy").value);
  if (found === null) say("Every study that can be read has a label.");
  else if (found === editor?.image) say("This is the study to label next.");
  else await open(found);
}

async function save() {
  const saved = editor;
  const emptied = await saved.emptied();
  if (emptied && !window.confirm(`Nothing is left of the label of ${saved.image}. Remove what is saved?`)) return;
  const done = await insist(emptied ? "Remove" : "Replace", (sure) => (emptied ? saved.remove(sure) : saved.save(sure)));
  say(`The label of ${saved.image} is ${done}.`);
  await refreshStudies();
  change(saved);
}

/** What an action on the saved label returns. Where somebody else's is in its place it is done when the user is sure. */
async function insist(verb, action) {
  try {
    return await action(false);
  } catch (error) {
    if (!(error instanceof api.Outdated) || !window.confirm(`${error.message} ${verb} that label?`)) throw error;
    return action(true);
  }
}

// The open study on the screen

function change(changed, answered = false) {
  if (changed !== editor) return;
  const { state, history, labels, counts } = editor;
  viewer.clicks = state.clicks;
  $("undo").disabled = !history.canUndo;
  $("redo").disabled = !history.canRedo;
  $("propagate").disabled = !canPropagate(editor.model);
  $("propagate").setAttribute("aria-pressed", String(propagated(state, editor.model, active)));
  $("saved").textContent = editor.unsaved ? "Not saved yet" : studies.find((study) => study.image === editor.image)?.labelled ? "Saved" : "";
  if (modelShown !== state.model) showModel(state.model);
  const figures = (name) => {
    const ml = labels.countOf(name, counts) * editor.voxelMl;
    return ml ? `${ml < 10 ? ml.toFixed(1) : ml.toFixed(0)} ml` : "";
  };
  const switches = { hidden: (name) => hidden.has(name), hide, locked: (name) => editor.isLocked(name), lock };
  showLabels($("labels"), labels, namesShown(), { active, takes, figures, choose: chooseLabel, ...switches });
  if (answered) {
    viewer.show(editor.display);
    drawn = [];
    showPlace();
  }
  viewer.redraw();
}

function showPreview(changed, click) {
  if (changed !== editor) return;
  const axis = editor.frame.axes.indexOf(editor.axis);
  const plane = editor.frame.toShown(click.position)[axis];
  viewer.show(editor.display, axis, [...new Set([...drawn, plane])]);
  drawn = [plane];
  requestAnimationFrame(() => ($("viewer").dataset.previewed = String(click.position)));
}

/** Those of the model first, in its order, so that their keys are the same in every study. */
function namesShown() {
  const { labels } = editor.model;
  return [...new Set([...(labelsOf(editor.model) ?? labels), ...editor.labels.names])];
}

function chooseLabel(name) {
  active = name;
  showColours();
  change(editor);
}

function showColours() {
  const { labels } = editor;
  const seen = labels.names.filter((label) => !hidden.has(label));
  const colours = seen.map((label) => [labels.value(label), labels.colour(label)]);
  viewer.setColours(new Map(colours), labels.has(active) ? labels.value(active) : null);
}

/** Hide a label's mask, or show it again. What is hidden is saved like the others. */
function hide(name) {
  if (!hidden.delete(name)) hidden.add(name);
  chooseLabel(active);
}

const lock = (name) => attempt(() => editor.toggleLock(name));

function showModel(name) {
  const { model } = editor;
  modelShown = name;
  $("model").value = name;
  $("model-text").textContent = model.description;
  $("doubt").textContent = doubt(model, viewer.range);
  $("automatic").hidden = !answersFirst(model);
  const names = namesShown();
  editor.labels.reserve(names);
  const possible = names.filter(takes);
  chooseLabel(possible.includes(active) ? active : (possible[0] ?? null));
  training.follow(trainerOf(server.trainers, name));
}

function cycle(select) {
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
}

// Clicks and strokes

/** Whether a label can be chosen: the brush takes those, too, that the model does not know. */
const takes = (name) => brush.on || knows(editor.model, name);

function checkKnown(name) {
  if (knows(editor.model, name)) return;
  throw new Error(`${editor.state.model} does not know the label ${name}: choose another model for it, or paint it with the brush (B).`);
}

/** The label that clicks and strokes are for, which is seen from then on. Throws Error if nothing may change it. */
function changeable() {
  if (!active) throw new Error("Choose a label first, or add one.");
  editor.checkUnlocked(active);
  editor.labels.value(active); // throws if there is no room for it
  if (hidden.has(active)) hide(active);
  return active;
}

function clickAt(shown, inside) {
  if (active) checkKnown(active);
  return { position: editor.frame.toSource(shown), label: changeable(), inside };
}

function paint(shown, inside, depth, before = shown) {
  editor.stroke(changeable(), inside, swept(before, shown, depth, brush.radius, editor.frame));
  viewer.show(editor.display, depth, [shown[depth]]);
}

/** What a mouse button does, at the cursor. */
function actAtCursor(inside) {
  if (!brush.on) return editor.add(clickAt(viewer.cursor, inside));
  paint(viewer.cursor, inside, viewer.depth);
  return editor.endStroke();
}

function toggleBrush() {
  pointer.cancel();
  brush.toggle();
  change(editor);
}

const moveTo = (shown) => {
  viewer.moveTo(shown);
  showPlace();
};

/** The voxel under the cursor (index of the stored image), what the image holds there, and its label. */
function showPlace() {
  const { cursor, value } = viewer;
  const name = editor.labels.names.find((label) => editor.labels.value(label) === editor.map[editor.frame.shownOffset(cursor)]);
  const parts = [editor.frame.toSource(cursor).join(", "), Number(value.toPrecision(5)), name];
  $("place").textContent = parts.filter((part) => part !== undefined).join(" · ");
}

const pointer = listen($("viewer"), viewer, {
  drag(shown, inside, depth, before) {
    if (brush.on) return attempt(() => paint(shown, inside, depth, before));
    moveTo(shown);
    attempt(() => {
      const click = clickAt(shown, inside);
      viewer.clicks = [...editor.state.clicks, { ...click, pending: true }];
      editor.preview(click);
    });
  },
  drop: (shown, inside) => attempt(() => (brush.on ? editor.endStroke() : editor.add(clickAt(shown, inside)))),
  giveUp: () => editor.cancelPreview(),
  move: moveTo,
  scroll: (axis, steps) => step(axis, steps),
  zoom: (factor, place) => editor && viewer.zoomBy(factor, place),
  pan: (from, to) => viewer.pan(from, to),
  window: (right, up) => editor && looks.changeWindow(right, up),
  hover: (mouse) => brush.hover(mouse),
});

function step(axis, voxels) {
  if (!editor) return;
  viewer.moveBy(axis, voxels);
  showPlace();
}

/** Move the cursor towards a side of the first view. */
function stepTo(side, far) {
  const [axis, sign] = towards(viewer.depth, side);
  step(axis, far ? 10 * sign : sign);
}

// Commands of keys and buttons

const commands = {
  inside: () => actAtCursor(true),
  outside: () => actAtCursor(false),
  left: ({ shiftKey }) => stepTo("left", shiftKey),
  right: ({ shiftKey }) => stepTo("right", shiftKey),
  up: ({ shiftKey }) => stepTo("top", shiftKey),
  down: ({ shiftKey }) => stepTo("bottom", shiftKey),
  sliceUp: () => step(viewer.depth, 1),
  sliceDown: () => step(viewer.depth, -1),
  undo: ({ shiftKey }) => (shiftKey ? editor.redo() : editor.undo()),
  redo: () => editor.redo(),
  label: (event, number) => $("labels").querySelectorAll("button.row")[number - 1]?.click(),
  propagate: () => $("propagate").click(),
  automatic: () => $("automatic").hidden || editor.segmentAll(),
  erase: () => active && editor.erase(active),
  hide: () => active && hide(active),
  lock: () => active && lock(active),
  brush: toggleBrush,
  smaller: () => brush.resize(-1),
  larger: () => brush.resize(1),
  save,
  next,
  window: () => cycle($("window")),
  layout: () => cycle($("layout")),
  mask: () => looks.toggleMask(),
  zoomIn: () => viewer.zoomBy(1.25),
  zoomOut: () => viewer.zoomBy(1 / 1.25),
  fit: () => viewer.resetView(),
  cancel: () => pointer.cancel() || (brush.on && toggleBrush()),
  help: () => $("shortcuts").showModal(),
};

// A list that was come to by the keyboard takes letters, to choose by; who has opened it by the mouse expects commands.
let pressed = null;
document.addEventListener("pointerdown", ({ target }) => (pressed = target.matches("select") ? target : null));
document.addEventListener("keydown", (event) => {
  const { target } = event;
  if (event.key === "Tab") pressed = null;
  const typing = target.matches("input:not([type=range]), select") && target !== pressed;
  const inViewer = target === $("viewer") || target === document.body;
  const found = shortcut(event, typing, inViewer);
  if (!found || $("shortcuts").open || !allowed(found.command)) return;
  event.preventDefault();
  if (event.repeat && !found.repeats) return;
  attempt(() => commands[found.command](event, found.number));
});

/** Before a study is open there is little to do, and while one opens there is nothing. */
const allowed = (command) => $("loading").hidden && (editor || ["help", "next"].includes(command));

for (const name of ["undo", "redo", "erase", "automatic", "brush", "fit", "next", "help"]) {
  $(name).addEventListener("click", (event) => attempt(() => allowed(name) && commands[name](event)));
}
$("accept").addEventListener("click", () => attempt(() => allowed("save") && save()));
$("propagate").addEventListener("click", () => active && allowed("propagate") && editor.togglePropagate(active));
$("model").addEventListener("change", () => attempt(() => editor?.chooseModel($("model").value)));
// Who works with the mouse clicks on in the views, and expects their keys; who tabs stays where they are.
document.addEventListener("click", ({ detail, target }) => {
  if (detail && target.closest("button") && !$("shortcuts").open) $("viewer").focus({ preventScroll: true });
});
for (const name of ["window", "layout", "radius", "model", "strategy"]) {
  $(name).addEventListener("change", ({ target }) => target.matches(":focus-visible") || $("viewer").focus());
}
$("slices").addEventListener("webglcontextlost", () => {
  say("The browser has taken the views' graphics memory away: save, then load the page again.", true);
});
$("add-label").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("new-label").value.trim();
  if (!name || !editor) return;
  attempt(() => {
    if (name.toLowerCase() === "background") throw new Error("What has no label is background: give the label another name.");
    if (!brush.on) checkKnown(name);
    editor.labels.value(name);
    chooseLabel(name);
    $("new-label").value = "";
    $("labels").querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
  });
});
window.addEventListener("beforeunload", (event) => editor?.unsaved && event.preventDefault());
window.addEventListener("hashchange", () => {
  const wanted = wantedStudy();
  if (wanted && wanted !== editor?.image) attempt(() => open(wanted));
});

const wantedStudy = () => new URLSearchParams(location.hash.slice(1)).get("study");

const training = new TrainingPanel(
  {
    form: $("training"),
    epochs: $("epochs"),
    train: $("train"),
    stop: $("stop"),
    state: $("training-state"),
    progress: $("training-progress"),
    curve: $("curve"),
  },
  say,
  () => attempt(async () => (server = await api.info())),
);

async function start() {
  fillHelp($("shortcut-list"));
  [server] = await Promise.all([api.info(), refreshStudies()]);
  const models = clickable(server.models);
  if (!models.length) throw new Error("The server has no model.");
  fillSelect($("model"), models, models[0]);
  fillSelect($("strategy"), Object.keys(server.strategies), "uncertainty");
  if (!studies.length) throw new Error("The server has no studies: start it with a folder of images, or a DICOMweb server.");
  const inTurn = [...studies].sort((one, other) => one.labelled - other.labelled).map(({ image }) => image);
  const wanted = wantedStudy();
  await openFirst(wanted ? [wanted] : inTurn);
  $("viewer").focus();
}

// For tests and for the browser's console.
window.clickseg = { viewer, editor: () => editor, ready: attempt(start) };
