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
 * model does. choose(name): called for the one that is chosen.
 */
export function showLabels(list, labels, names, { active, takes, figures, choose }) {
  const make = (name, index) => {
    const parts = [text("span", "", "colour"), text("span", name, "name"), text("span", "", "figure")];
    if (index < 9) parts.push(text("kbd", index + 1));
    const option = button(name, parts, choose);
    option.setAttribute("role", "option");
    return item(option, "presentation");
  };
  const buttons = rows(list, names, make);
  names.forEach((name, index) => {
    const option = buttons[index];
    option.setAttribute("aria-selected", String(name === active));
    option.querySelector(".colour").style.setProperty("--colour", labels.colour(name));
    option.querySelector(".figure").textContent = figures(name);
    option.disabled = !takes(name);
    option.title = option.disabled ? `${name}: the model does not know this label` : name;
  });
}

export function fillSelect(select, names, chosen) {
  select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
  select.disabled = names.length < 2;
}

/**
 * The buttons of a list that has a row for each name; make(name, index) makes one. Rows stay as long as the names do: a
 * press on one that is replaced meanwhile would be no click. The one that has the focus keeps it in any case.
 */
function rows(list, names, make) {
  const buttons = () => [...list.querySelectorAll("button")];
  const before = buttons();
  if (names.length === before.length && before.every(({ value }, index) => value === names[index])) return before;
  const focus = before.indexOf(document.activeElement);
  list.replaceChildren(...names.map(make));
  buttons()[focus]?.focus();
  return buttons();
}

function button(name, parts, choose) {
  const element = document.createElement("button");
  Object.assign(element, { type: "button", value: name, title: name });
  element.append(...parts);
  element.addEventListener("click", () => choose(name));
  return element;
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
