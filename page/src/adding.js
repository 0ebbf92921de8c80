/** Studies that somebody adds from their own machine: files and folders, chosen or dropped on the page, and sent. */

import * as api from "./api.js";

const MB = 2 ** 20;

export class Adding {
  #limit = null; // bytes; null: the server takes none
  #cancel = null; // AbortController, while files are sent

  /**
   * elements: {panel, files and folder: buttons, chosenFiles and chosenFolder: inputs, drop: what is shown while files are
   * over the page, sending, text, progress, end: a button}.
   * added(ids): called when there are new studies; what it throws is told.
   */
  constructor(elements, added) {
    Object.assign(this, { elements, added });
    for (const [button, input] of [[elements.files, elements.chosenFiles], [elements.folder, elements.chosenFolder]]) {
      button.addEventListener("click", () => input.click());
      input.addEventListener("change", () => {
        const files = [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
        input.value = ""; // so that the same ones can be chosen again
        this.add(files);
      });
    }
    elements.end.addEventListener("click", () => (this.#cancel ? this.#cancel.abort() : this.#show("")));
    this.#listenForDrops();
  }

  /** As the server says it: {possible, limit: bytes}. */
  allow({ possible, limit }) {
    this.#limit = possible ? limit : null;
    this.elements.panel.hidden = !possible;
  }

  get possible() {
    return this.#limit !== null;
  }

  get busy() {
    return this.#cancel !== null;
  }

  /** Send files, [{file, path}], and tell how it goes. Hidden ones, which systems leave in folders, stay here. */
  async add(files) {
    if (this.busy || !this.possible) return;
    const wanted = files.filter(({ path }) => !path.split("/").at(-1).startsWith("."));
    const what = wanted.length === 1 ? wanted[0].file.name : `${wanted.length} files`;
    this.#cancel = new AbortController();
    this.elements.sending.classList.remove("problem");
    try {
      this.#check(wanted);
      this.#show(`Sending ${what}`, 0);
      const progress = (part) => (part < 1 ? this.#show(`Sending ${what}`, part) : this.#show(`The server reads ${what}`));
      const { studies, refused, left_out: left } = await api.addStudies(wanted, progress, this.#cancel.signal);
      const lists = [["Not added:", refused], ["Left out, as it makes no volume:", left]].filter(([, list]) => list.length);
      this.#end(lists.map(([title, list]) => [title, ...list].join("\n")).join("\n"), refused.length > 0);
      await this.added(studies);
    } catch (error) {
      this.#end(error instanceof api.Cancelled ? "" : error.message, true);
    }
  }

  #check(files) {
    const size = files.reduce((sum, { file }) => sum + file.size, 0);
    if (!files.length) throw new Error("There is no file in it.");
    if (size <= this.#limit) return;
    const [own, most] = [size, this.#limit].map((bytes) => `${(bytes / MB).toFixed(bytes < 10 * MB ? 1 : 0)} MB`);
    throw new Error(`The server takes ${most} at once, and this is ${own}: add it in parts, or let the server be started with a larger --conf upload_gb.`);
  }

  /** text: what is to be told, if anything. */
  #end(text, isProblem) {
    this.#cancel = null;
    this.elements.sending.classList.toggle("problem", isProblem);
    this.#show(text);
  }

  /** Show a text, or nothing; part: how much is sent, while files are. */
  #show(text, part) {
    const { files, folder, sending, text: line, progress, end } = this.elements;
    const sends = this.busy && part !== undefined;
    for (const button of [files, folder]) button.disabled = this.busy;
    sending.hidden = !text;
    sending.classList.toggle("told", !this.busy);
    line.textContent = sends ? `${text}: ${Math.floor(100 * part)} %` : text;
    progress.hidden = !this.busy;
    if (sends) progress.value = part;
    else progress.removeAttribute("value");
    end.hidden = this.busy && !sends; // what has arrived is not called back
    end.textContent = this.busy ? "Cancel" : "Close";
  }

  #listenForDrops() {
    const { drop } = this.elements;
    const show = (event, shown) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault(); // else the browser would leave the page, and open the file
      event.dataTransfer.dropEffect = this.possible && !this.busy ? "copy" : "none";
      drop.hidden = !shown || !this.possible || this.busy;
    };
    document.addEventListener("dragenter", (event) => show(event, true));
    document.addEventListener("dragover", (event) => show(event, true));
    document.addEventListener("dragleave", (event) => event.relatedTarget ?? show(event, false));
    document.addEventListener("drop", async (event) => {
      show(event, false);
      if (event.dataTransfer?.types.includes("Files")) this.add(await dropped(event.dataTransfer));
    });
  }
}

/** The files that were dropped, those in folders, too: [{file, path}]. A DataTransfer has them only until the event ends. */
export async function dropped({ items }) {
  const things = [...items].filter(({ kind }) => kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  return (await Promise.all(things.map(filesIn))).flat();
}

async function filesIn(thing) {
  if (thing.isDirectory) {
    const reader = thing.createReader();
    const found = [];
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // a hundred at a time
      if (!some.length) return found;
      for (const entry of some) found.push(...(await filesIn(entry)));
    }
  }
  if (!thing.isFile) return [{ file: thing, path: thing.name }];
  const file = await new Promise((done, failed) => thing.file(done, failed));
  return [{ file, path: thing.fullPath.replace(/^\//, "") }];
}
