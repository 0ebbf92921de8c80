/** The lists at the sides: studies and labels. */

/** studies: of the server. current: id. open(id): called for the one that is chosen. */
export function showStudies(list, studies, current, open) {
  const make = (image) => {
    const name = text("span", "", "name");
    name.append(text("span", ""), text("small", ""));
    return item(button(image, [name, text("span", "saved", "done")], open));
  };
  const buttons = rows(list, studies.map(({ image }) => image), make);
  studies.forEach(({ image, labelled, patient, description }, index) => {
    buttons[index].setAttribute("aria-current", String(image === current));
    buttons[index].querySelector(".name span").textContent = patient || image;
    buttons[index].querySelector("small").textContent = description;
    buttons[index].querySelector(".done").hidden = !labelled;
  });
}

/**
 * names: of labels (Labels), in the order of the list. figures(name): what is written beside it. takes(name): whether the
 * model does. choose(name): called for the one that is chosen. hidden(name), locked(name): whether it is; hide(name),
 * lock(name): called when that is to be switched.
 */
export function showLabels(list, labels, names, { active, takes, figures, choose, hidden, hide, locked, lock }) {
  const make = (name, index) => {
    const parts = [text("span", "", "colour"), text("span", name, "name"), text("span", "", "figure")];
    if (index < 9) parts.push(text("kbd", index + 1));
    return item(button(name, parts, choose), toggle(name, "eye", hide), toggle(name, "lock", lock));
  };
  const buttons = rows(list, names, make);
  names.forEach((name, index) => {
    const row = buttons[index];
    row.setAttribute("aria-current", String(name === active));
    row.querySelector(".colour").style.setProperty("--colour", labels.colour(name));
    row.querySelector(".figure").textContent = figures(name);
    row.disabled = !takes(name);
    row.title = row.disabled ? `${name}: the model does not know this label, the brush (B) paints it` : name;
    show(row.parentElement.querySelector(".eye"), hidden(name), "Hide", name);
    show(row.parentElement.querySelector(".lock"), locked(name), "Lock", name);
  });
}

/** Whether a switch is on, and what it is to whoever does not see it. */
function show(element, on, verb, name) {
  element.setAttribute("aria-pressed", String(on));
  element.title = `${verb} ${name} (${verb[0]})`;
  element.setAttribute("aria-label", `${verb} ${name}`);
}

export function fillSelect(select, names, chosen) {
  select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
  select.disabled = names.length < 2;
}

/**
 * The first buttons of a list that has a row for each name; make(name, index) makes one. Rows stay as long as the names do:
 * a press on one that is replaced meanwhile would be no click. The one that has the focus keeps it in any case.
 */
function rows(list, names, make) {
  const buttons = () => [...list.querySelectorAll("button.row")];
  const before = buttons();
  if (names.length === before.length && before.every(({ value }, index) => value === names[index])) return before;
  const focus = before.indexOf(document.activeElement);
  list.replaceChildren(...names.map(make));
  buttons()[focus]?.focus();
  return buttons();
}

function button(name, parts, choose) {
  const element = document.createElement("button");
  Object.assign(element, { type: "button", className: "row", value: name, title: name });
  element.append(...parts);
  element.addEventListener("click", () => choose(name));
  return element;
}

/** kind: "eye" or "lock". */
function toggle(name, kind, action) {
  const element = document.createElement("button");
  Object.assign(element, { type: "button", className: `toggle ${kind}` });
  element.addEventListener("click", () => action(name));
  return element;
}

function item(...buttons) {
  const entry = document.createElement("li");
  entry.append(...buttons);
  return entry;
}

function text(tag, content, name = "") {
  const element = document.createElement(tag);
  element.textContent = content;
  element.className = name;
  return element;
}
