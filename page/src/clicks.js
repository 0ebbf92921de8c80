/**
 * From clicks to requests. A click is {position: [i, j, k] of the source, label: name, inside: true or false}; a state
 * (of the history) is {clicks, base, model, propagate, automatic, locked}:
 *   base: {map, ...}, the label map that the clicks correct; model: a name in the server's /info;
 *   propagate: names of labels that go on to neighbouring slices; automatic: whether the model is to answer unasked;
 *   locked: of each label that nothing is to change, {label, voxels}, whatever the clicks of others say.
 */

export const ONE = "deepgrow"; // type of a model of one structure; the others know their labels by name

/** The labels that a model segments, in its order; null if it takes any structure. */
export function labelsOf(model) {
  if (model.type === ONE) return null;
  return Object.keys(model.labels).filter((name) => name !== "background");
}

/** The names of those models of /info that take clicks: others answer once, as `answersFirst` models do, too. */
export function clickable(models) {
  return Object.keys(models).filter((name) => models[name].type !== "segmentation");
}

/** Whether a label is one that the model segments. */
export function knows(model, label) {
  return labelsOf(model)?.includes(label) ?? true;
}

/** The model to open a study with: that of the last study, if the server has it still, and else the first. */
export function modelFor(models, last) {
  const names = clickable(models);
  return names.includes(last) ? last : names[0];
}

/** Whether a model goes on from slice to slice when asked to. */
export function canPropagate(model) {
  return "propagate" in (model.config ?? {});
}

/** Whether a model answers before the first click. */
export function answersFirst(model) {
  return model.type !== ONE && !canPropagate(model);
}

/** Whether the answer to a request may take so long that one would like to see how far it is. */
export function takesLong(model, params) {
  return answersFirst(model) || Boolean(params.propagate);
}

/** Whether a label is propagated; of a model of named labels all are, or none. */
export function propagated(state, model, label) {
  return (labelsOf(model) ?? [label]).some((name) => state.propagate.includes(name));
}

/**
 * What the server is to be asked for a state, in the order in which answers are drawn: a list of
 * {params, values: Map from the answer's values to label names}.
 */
export function questions(state, model) {
  if (model.type === ONE) {
    return labelsInOrder(state.clicks).map((label) => oneStructure(state, label));
  }
  const known = labelsOf(model);
  const clicks = state.clicks.filter(({ label }) => known.includes(label));
  if (!clicks.length && !(state.automatic && answersFirst(model))) return [];
  return [severalLabels(state, model, known, clicks)];
}

/** The question that decides where a click of `label` belongs. */
export function questionOf(state, model, label) {
  return questions(state, model).find(({ values }) => [...values.values()].includes(label));
}

/**
 * The labels that a preview of a slice decides, once a state's clicks are answered there. axis: that numbers slices.
 * A model that works slice by slice decides those with a click inside in that slice: the others stay as they are.
 */
export function decidedIn(state, model, slice, axis) {
  const bySlice = model.type === ONE || canPropagate(model);
  const deciding = bySlice ? state.clicks.filter(({ inside, position }) => inside && position[axis] === slice) : state.clicks;
  return new Set(deciding.map(({ label }) => label));
}

/** Labels by the time of their last click. */
function labelsInOrder(clicks) {
  return [...new Set(clicks.map(({ label }) => label).reverse())].reverse();
}

function oneStructure(state, label) {
  const clicks = state.clicks.filter((click) => click.label === label);
  const params = {
    label,
    foreground: clicks.filter(({ inside }) => inside).map(({ position }) => position),
    background: clicks.filter(({ inside }) => !inside).map(({ position }) => position),
  };
  if (state.propagate.includes(label)) params.propagate = true;
  return { params, values: new Map([[1, label]]) };
}

function severalLabels(state, model, known, clicks) {
  const positions = new Map([["background", clicks.filter(({ inside }) => !inside).map(({ position }) => position)]]);
  for (const { label, position } of clicks.filter(({ inside }) => inside)) {
    positions.set(label, [...(positions.get(label) ?? []), position]);
  }
  const params = Object.fromEntries(positions); // in which any name is a key of its own, be it __proto__
  if (canPropagate(model) && propagated(state, model)) params.propagate = true;
  return { params, values: new Map(known.map((label) => [model.labels[label], label])) };
}
