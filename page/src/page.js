/** The page: one viewer, one open study, and the controls around them. */

import { Adding } from "./adding.js";
import * as api from "./api.js";
import { Brush } from "./brush.js";
import { clickable, modelFor } from "./clicks.js";
import { Editor } from "./editor.js";
import { Hand } from "./hand.js";
import { fillHelp, shortcut } from "./keyboard.js";
import { checkName } from "./labels.js";
import { Looks } from "./looks.js";
import { fillSelect, showStudies } from "./panels.js";
import { Screen } from "./screen.js";
import { readStudy } from "./study.js";
import { Teller } from "./telling.js";
import { trainerOf, TrainingPanel } from "./training.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const viewer = new Viewer($("slices"), $("marks"));
const looks = new Looks(viewer, { window: $("window"), layout: $("layout"), opacity: $("opacity") });
const brush = new Brush(viewer, { button: $("brush"), radius: $("radius"), size: $("size") });
const teller = new Teller({ status: $("status"), latency: $("latency") });
const say = (sentence, isProblem) => teller.say(sentence, isProblem);
const attempt = (action) => teller.attempt(action);
const lock = (name) => attempt(() => screen.editor.toggleLock(name));
const screen = new Screen({
  viewer,
  brush,
  elements: {
    undo: $("undo"),
    redo: $("redo"),
    propagate: $("propagate"),
    saved: $("saved"),
    labels: $("labels"),
    place: $("place"),
    model: $("model"),
    modelText: $("model-text"),
    doubt: $("doubt"),
    automatic: $("automatic"),
    views: $("viewer"),
  },
  lock,
  isSaved: (image) => studies.find((study) => study.image === image)?.labelled,
  modelChosen: (name) => training.follow(trainerOf(server.trainers, name)),
});
const hand = new Hand($("viewer"), { viewer, screen, brush, looks, attempt });
let server; // of /info
let studies = [];

// Studies

async function refreshStudies() {
  studies = await api.studies();
  const labelled = studies.filter((study) => study.labelled).length;
  $("studies-count").textContent = `${labelled} of ${studies.length} saved`;
  markStudy(screen.editor?.image);
}

const markStudy = (current) => showStudies($("studies"), studies, current, (image) => attempt(() => open(image)));

let opening = 0;
async function open(image) {
  const turn = ++opening;
  $("unopened").hidden = true;
  $("loading-text").textContent = `Opening ${image}`;
  $("loading").hidden = false;
  try {
    const { volume, voxelMl, known } = await readStudy(image, viewer);
    await screen.editor?.saving.settled();
    if (turn !== opening) return;
    // Whatever was clicked meanwhile counts, too. From here on nothing waits.
    const last = screen.editor;
    if (last?.unsaved && !window.confirm(`The label of ${last.image} is not saved. Leave it?`)) return;
    const latency = (kind, ms) => teller.showLatency(kind, ms);
    const on = {
      change: (...changed) => screen.change(...changed),
      preview: (...previewed) => screen.showPreview(...previewed),
      latency,
      part: (fraction) => teller.showFar("click", `${Math.floor(100 * fraction)} %`),
      slice: (...shown) => screen.showSlice(...shown),
      problem: (sentence) => say(sentence, true),
    };
    const model = modelFor(server.models, last?.state.model);
    const opened = new Editor({ ...known, models: server.models, model, on });
    opened.voxelMl = voxelMl;
    // Up to here a study that is too large for the browser leaves the last one open, and from here on none.
    hand.cancel();
    screen.close();
    viewer.open(volume);
    teller.forgetLatencies();
    $("study-name").textContent = image;
    document.title = `${image} – clickseg`;
    screen.open(opened, looks);
    markStudy(image);
    $("studies").querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
  } finally {
    if (turn === opening) $("loading").hidden = true;
    if (turn === opening && screen.editor) location.hash = new URLSearchParams({ study: screen.editor.image });
    if (!screen.editor) for (const id of ["study-name", "labels", "place", "saved"]) $(id).replaceChildren();
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

async function next() {
  await screen.editor?.saving.settled();
  const found = await api.next($("strategy").value);
  if (found === null) say("Every study that can be read has a label.");
  else if (found === screen.editor?.image) say("This is the study to label next.");
  else await open(found);
}

async function save() {
  const saved = screen.editor;
  const emptied = await saved.saving.emptied();
  if (emptied && !window.confirm(`Nothing is left of the label of ${saved.image}. Remove what is saved?`)) return;
  const done = await insist(emptied ? "Remove" : "Replace", (sure) => (emptied ? saved.saving.remove(sure) : saved.saving.save(sure)));
  say(`The label of ${saved.image} is ${done}.`);
  await refreshStudies();
  screen.change(saved);
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

async function download() {
  const { image } = screen.editor;
  const { file, names } = await screen.editor.saving.download();
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(file), download: `${image}_labels.nii.gz` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  say(`${link.download}: ${names.map(({ name, idx }) => `${idx} ${name}`).join(", ")}`);
}

// Studies that are added

const adding = new Adding(
  {
    panel: $("adding"),
    files: $("add-files"),
    folder: $("add-folder"),
    chosenFiles: $("chosen-files"),
    chosenFolder: $("chosen-folder"),
    drop: $("drop"),
    sending: $("sending"),
    text: $("sending-text"),
    progress: $("sending-progress"),
    end: $("sending-end"),
  },
  async ([first]) => {
    await refreshStudies();
    if (first === screen.editor?.image) say(`${first} is here already, and open.`);
    else await open(first);
  },
);

// Commands of keys and buttons

const commands = {
  inside: () => hand.actAtCursor(true),
  outside: () => hand.actAtCursor(false),
  left: ({ shiftKey }) => hand.stepTo("left", shiftKey),
  right: ({ shiftKey }) => hand.stepTo("right", shiftKey),
  up: ({ shiftKey }) => hand.stepTo("top", shiftKey),
  down: ({ shiftKey }) => hand.stepTo("bottom", shiftKey),
  sliceUp: () => hand.step(viewer.depth, 1),
  sliceDown: () => hand.step(viewer.depth, -1),
  undo: ({ shiftKey }) => (shiftKey ? screen.editor.redo() : screen.editor.undo()),
  redo: () => screen.editor.redo(),
  label: (event, number) => $("labels").querySelectorAll("button.row")[number - 1]?.click(),
  propagate: () => $("propagate").click(),
  automatic: () => $("automatic").hidden || screen.editor.segmentAll(),
  erase: () => screen.active && screen.editor.erase(screen.active),
  hide: () => screen.active && screen.hide(screen.active),
  lock: () => screen.active && lock(screen.active),
  brush: () => hand.toggleBrush(),
  fill: () => screen.active && screen.editor.fill(screen.active, viewer.depth),
  smaller: () => brush.resize(-1),
  larger: () => brush.resize(1),
  save,
  download,
  next,
  window: () => cycle($("window")),
  layout: () => cycle($("layout")),
  mask: () => looks.toggleMask(),
  zoomIn: () => viewer.zoomBy(1.25),
  zoomOut: () => viewer.zoomBy(1 / 1.25),
  fit: () => viewer.resetView(),
  cancel: () => hand.cancel() || (brush.on && hand.toggleBrush()),
  help: () => $("shortcuts").showModal(),
};

function cycle(select) {
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
}

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
const allowed = (command) => $("loading").hidden && (screen.editor || ["help", "next"].includes(command));

for (const name of ["undo", "redo", "erase", "automatic", "brush", "fill", "fit", "download", "next", "help"]) {
  $(name).addEventListener("click", (event) => attempt(() => allowed(name) && commands[name](event)));
}
$("accept").addEventListener("click", () => attempt(() => allowed("save") && save()));
$("propagate").addEventListener("click", () => screen.active && allowed("propagate") && screen.editor.togglePropagate(screen.active));
$("model").addEventListener("change", () => attempt(() => screen.editor?.chooseModel($("model").value)));
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
  if (!name || !screen.editor) return;
  attempt(() => {
    checkName(name, server.reserved);
    if (!brush.on) hand.checkKnown(name);
    screen.editor.labels.value(name);
    screen.choose(name);
    $("new-label").value = "";
    $("labels").querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
  });
});
window.addEventListener("beforeunload", (event) => (screen.editor?.unsaved || adding.busy) && event.preventDefault());
window.addEventListener("hashchange", () => {
  const wanted = wantedStudy();
  if (wanted && wanted !== screen.editor?.image) attempt(() => open(wanted));
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
  const [info, takes] = await Promise.all([api.info(), api.adding(), refreshStudies()]);
  server = info;
  adding.allow(takes);
  const models = clickable(server.models);
  if (!models.length) throw new Error("The server has no model.");
  fillSelect($("model"), models, models[0]);
  fillSelect($("strategy"), Object.keys(server.strategies), "uncertainty");
  if (!studies.length && adding.possible) return; // which the list says
  if (!studies.length) throw new Error("The server has no studies: store one in its DICOMweb server.");
  const inTurn = [...studies].sort((one, other) => one.labelled - other.labelled).map(({ image }) => image);
  const wanted = wantedStudy();
  await openFirst(wanted ? [wanted] : inTurn);
  $("viewer").focus();
}

// For tests and for the browser's console.
window.clickseg = { viewer, editor: () => screen.editor, ready: attempt(start) };
