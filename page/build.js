/** Bundles the page into the library, where the server finds it: `npm run build`, or with a folder to write to. */

import { build } from "esbuild";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";

const folder = process.argv[2] ?? "../apps/clickseg/clickseg/page";
const NONE = "./src/no-codec.js";

await rm(folder, { recursive: true, force: true });
await mkdir(folder, { recursive: true });
const { metafile } = await build({
  entryPoints: ["src/page.js", "src/style.css"],
  outdir: folder,
  alias: { "numcodecs/zstd": NONE, "numcodecs/blosc": NONE, "numcodecs/lz4": NONE },
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  legalComments: "none",
  charset: "utf8",
  metafile: true,
  logLevel: "warning",
});
for (const name of ["index.html", "icon.svg"]) await cp(`src/${name}`, `${folder}/${name}`);
await writeFile(`${folder}/LICENSES.txt`, await licences(Object.keys(metafile.inputs)));

/** The licences of all packages that went into the bundle, word for word. */
async function licences(inputs) {
  const packages = new Set(inputs.map((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1]).filter(Boolean));
  const texts = [...packages].sort().map(async (name) => {
    const { version } = JSON.parse(await readFile(`node_modules/${name}/package.json`, "utf8"));
    return `${name} ${version}\n\n${(await licence(name)).trim()}\n`;
  });
  const line = "-".repeat(80);
  return ["The page is made with these packages.\n", ...(await Promise.all(texts))].join(`\n${line}\n\n`);
}

async function licence(name) {
  const file = (await readdir(`node_modules/${name}`)).find((entry) => /^licen[cs]e/i.test(entry));
  return readFile(file ? `node_modules/${name}/${file}` : `licences/${name.replace("/", "+")}.txt`, "utf8");
}
