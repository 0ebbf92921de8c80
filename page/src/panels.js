/** The lists at the sides: studies and labels. */

/** studies: of the server. current: id. open(id): called for the one that is chosen. */
export function showStudies(list, studies, current, open) {
  const items = studies.map(({ image, labelled, description }) => {
    const button = row({ current: image === current });
    const name = text("span", image, "name");
    if (description) name.append(text("small", description));
    button.title = image;
    button.append(name);
    if (labelled) button.append(text("span", "saved", "done"));
    button.addEventListener("click", () => open(image));
    return item(button);
  });
  refill(list, items);
}

/**
 * names: of labels (Labels), in the order of the list. figures(name): what is written beside it. takes(name): whether the
 * model does. choose(name): called for the one that is chosen.
 */
export function showLabels(list, labels, names, { active, takes, figures, choose }) {
  const items = names.map((name, index) => {
    const button = row({ selected: name === active });
    const colour = text("span", "", "colour");
    colour.style.setProperty("--colour", labels.colour(name));
    button.append(colour, text("span", name, "name"), text("span", figures(name), "figure"));
    if (index < 9) button.append(text("kbd", index + 1));
    button.disabled = !takes(name);
    button.title = button.disabled ? `${name}: the model does not know this label` : name;
    button.addEventListener("click", () => choose(name));
    return item(button, "presentation");
  });
  refill(list, items);
}

export function fillSelect(select, names, chosen) {
  select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
  select.disabled = names.length < 2;
}

/** Replace the rows; the one that has the focus keeps it. */
function refill(list, items) {
  const buttons = [...list.querySelectorAll("button")];
  const focus = buttons.indexOf(document.activeElement);
  list.replaceChildren(...items);
  if (focus >= 0) list.querySelectorAll("button")[focus]?.focus();
}

function row({ current, selected }) {
  const button = document.createElement("button");
  button.type = "button";
  if (current !== undefined) button.setAttribute("aria-current", String(current));
  if (selected !== undefined) {
    button.setAttribute("role", "option");
    button.setAttribute("aria-selected", String(selected));
  }
  return button;
}

function item(button, role) {
  const entry = document.createElement("li");
  if (role) entry.setAttribute("role", role);
  entry.append(button);
  return entry;
}

function text(tag, content, name = "") {
  const element = document.createElement(tag);
  element.textContent = content;
  element.className = name;
  return element;
}
