/** The three views of an image with its label map: NiiVue draws the slices, a canvas above them what lies upon them. */

import { Niivue, NVImage, SLICE_TYPE } from "@niivue/niivue";
import { Frame } from "./frame.js";
import { drawMarks } from "./marks.js";
import { rgb } from "./labels.js";
import { SLICE, sparingly } from "./shader.js";
import { dragged, showing, WHOLE, zoomed } from "./zoom.js";

const DRAWING = 7; // NiiVue's texture unit for label maps
const LAYOUTS = {
  three: [
    { sliceType: SLICE_TYPE.AXIAL, position: [0, 0, 0.64, 1] },
    { sliceType: SLICE_TYPE.CORONAL, position: [0.645, 0, 0.355, 0.5] },
    { sliceType: SLICE_TYPE.SAGITTAL, position: [0.645, 0.505, 0.355, 0.495] },
  ],
  axial: [{ sliceType: SLICE_TYPE.AXIAL, position: [0, 0, 1, 1] }],
  coronal: [{ sliceType: SLICE_TYPE.CORONAL, position: [0, 0, 1, 1] }],
  sagittal: [{ sliceType: SLICE_TYPE.SAGITTAL, position: [0, 0, 1, 1] }],
};
const DEPTH = { [SLICE_TYPE.AXIAL]: 2, [SLICE_TYPE.CORONAL]: 1, [SLICE_TYPE.SAGITTAL]: 0 };

export class Viewer {
  #drawing = false;
  #stale = false; // whether the slices are to be drawn, and not only what lies upon them
  #brush = null;
  #started = null;
  #view = WHOLE;

  /** slices, marks: two canvases in the same place. */
  constructor(slices, marks) {
    this.canvas = slices;
    this.marks = marks;
    this.clicks = [];
    this.frame = null;
    this.cursor = [0, 0, 0];
    this.nv = new Niivue({
      interactive: false,
      dragAndDropEnabled: false,
      isRadiologicalConvention: true,
      isOrientationTextVisible: false,
      crosshairWidth: 0,
      backColor: [0, 0, 0, 1],
      loadingText: "",
      logLevel: "error",
    });
    this.nv.customLayout = LAYOUTS.three;
    this.nv.meshShaders = []; // there are no meshes: compiling what draws them takes seconds without a GPU
    this.nv.drawOpacity = 0.42;
    this.nv.drawRimOpacity = 0.95;
  }

  /** Make the WebGL programs, once. It keeps the browser busy: what is to be fetched meanwhile is asked for before. */
  start() {
    return (this.#started ??= this.#attach());
  }

  async #attach() {
    await sparingly(this.canvas, () => this.nv.attachToCanvas(this.canvas, false));
    this.nv.setCustomSliceShader(SLICE);
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
  }

  /** The volume of a .nii file, to be opened. */
  read(file, name) {
    return NVImage.loadFromUrl({ url: file, name: `${name}.nii` });
  }

  frameOf(volume) {
    return new Frame(volume.hdr.dims.slice(1, 4), volume.permRAS, volume.hdr.pixDims.slice(1, 4));
  }

  /** Show a volume, without a label map. Sets `frame`, which is null if that fails: nothing can be clicked then. */
  open(volume) {
    const { nv } = this;
    this.frame = null;
    while (nv.volumes.length) nv.removeVolume(nv.volumes[0]);
    this.clicks = [];
    nv.addVolume(volume);
    nv.createEmptyDrawing();
    nv.drawClearAllUndoBitmaps();
    this.frame = this.frameOf(volume);
    this.resetView();
    this.moveTo(this.frame.shownDims.map((count) => Math.floor(count / 2)));
  }

  /** The least and greatest value that the image holds, leaving outliers out, and those that it holds at all. */
  get range() {
    const { robust_min: low, robust_max: high, global_min: least, global_max: greatest } = this.nv.volumes[0];
    return { low, high, least, greatest };
  }

  /** [black, white] */
  get window() {
    const { cal_min: low, cal_max: high } = this.nv.volumes[0];
    return [low, high];
  }

  setWindow(low, high) {
    const [volume] = this.nv.volumes;
    volume.cal_min = low;
    volume.cal_max = high;
    this.nv.refreshLayers(volume, 0);
    this.redraw();
  }

  /** colours: Map value -> #rrggbb; others are not drawn. active: the value that is drawn strongest. */
  setColours(colours, active) {
    const lut = new Uint8ClampedArray(256 * 4);
    for (const [value, colour] of colours) lut.set([...rgb(colour), value === active ? 255 : 185], 4 * value);
    this.nv.drawLut = { lut, labels: [] };
    this.nv.refreshColormaps();
    this.redraw();
  }

  setOpacity(opacity) {
    this.nv.drawOpacity = opacity;
    this.nv.drawRimOpacity = opacity && 0.95;
    this.redraw();
  }

  /** A circle where the mouse is: {at: [clientX, clientY], radius: mm, erases}; null for none. */
  setBrush(brush) {
    this.#brush = brush;
    this.#draw();
  }

  setLayout(name) {
    this.nv.customLayout = LAYOUTS[name];
    this.redraw();
  }

  /** The shown axis along which the first view is cut. */
  get depth() {
    return DEPTH[this.nv.customLayout[0].sliceType];
  }

  /** Show a label map in shown order; planes: of which only these of the shown axis `axis` have changed. */
  show(map, axis = null, planes = []) {
    const { gl } = this.nv;
    const dims = this.frame.shownDims;
    gl.activeTexture(gl.TEXTURE0 + DRAWING);
    gl.bindTexture(gl.TEXTURE_3D, this.nv.drawTexture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    if (axis === null) this.#upload(map, [0, 0, 0], dims);
    for (const plane of planes) {
      const from = dims.map((_, index) => (index === axis ? plane : 0));
      this.#upload(map, from, dims.map((count, index) => (index === axis ? 1 : count)));
    }
    this.redraw();
  }

  #upload(map, from, size) {
    const { gl } = this.nv;
    const [width, height] = this.frame.shownDims;
    gl.pixelStorei(gl.UNPACK_ROW_LENGTH, width);
    gl.pixelStorei(gl.UNPACK_IMAGE_HEIGHT, height);
    const first = from[0] + width * (from[1] + height * from[2]);
    gl.texSubImage3D(gl.TEXTURE_3D, 0, ...from, ...size, gl.RED, gl.UNSIGNED_BYTE, map, first);
    gl.pixelStorei(gl.UNPACK_ROW_LENGTH, 0);
    gl.pixelStorei(gl.UNPACK_IMAGE_HEIGHT, 0);
  }

  /** The voxel under a place on the screen: {shown: [x, y, z], depth: the shown axis of its view}, or null. */
  voxelAt(clientX, clientY) {
    const tile = this.#tileAt(clientX, clientY);
    const fraction = tile && this.#fractionAt(tile);
    if (!fraction) return null;
    const shown = this.frame.shownDims.map((count, axis) => Math.min(count - 1, Math.floor(fraction[axis] * count)));
    shown[tile.depth] = this.cursor[tile.depth];
    return { shown, depth: tile.depth };
  }

  /** The shown axis along which the view at a place on the screen is cut; that of the axial view where there is none. */
  depthAt(clientX, clientY) {
    return this.#tileAt(clientX, clientY)?.depth ?? 2;
  }

  /** The place (mm) under a place on the screen, {mm, depth}; null if there is none. */
  mmAt(clientX, clientY) {
    const tile = this.#tileAt(clientX, clientY);
    const fraction = tile && this.#fractionAt(tile);
    return fraction && { mm: this.#mm(fraction), depth: tile.depth };
  }

  #fractionAt({ x, y, index }) {
    const fraction = this.nv.screenXY2TextureFrac(x, y, index, true);
    return fraction[0] < 0 ? null : fraction;
  }

  #tileAt(clientX, clientY) {
    if (!this.frame) return null;
    const box = this.canvas.getBoundingClientRect();
    const x = ((clientX - box.left) * this.canvas.width) / box.width;
    const y = ((clientY - box.top) * this.canvas.height) / box.height;
    const index = this.nv.tileIndex(x, y);
    return index < 0 ? null : { x, y, index, depth: DEPTH[this.nv.screenSlices[index].axCorSag] };
  }

  /** Where a voxel is drawn, in CSS pixels of the page, in the view cut along a shown axis; null if it is not. */
  placeOf(shown, depth = 2) {
    const box = this.canvas.getBoundingClientRect();
    const at = this.#canvasPlace(shown, depth);
    if (!at) return null;
    return [box.left + (at[0] * box.width) / this.canvas.width, box.top + (at[1] * box.height) / this.canvas.height];
  }

  #canvasPlace(shown, depth) {
    const fraction = this.#fraction(shown);
    fraction[depth] = this.nv.scene.crosshairPos[depth];
    const type = Number(Object.keys(DEPTH).find((key) => DEPTH[key] === depth));
    return this.nv.frac2canvasPosWithTile(fraction, type)?.pos ?? null;
  }

  #fraction(shown) {
    return shown.map((index, axis) => (index + 0.5) / this.frame.shownDims[axis]);
  }

  /** Cut all views through a voxel (shown order). What is zoomed in moves only where the voxel is new, and would not be seen. */
  moveTo(shown) {
    const before = this.cursor;
    this.cursor = shown.map((index, axis) => Math.max(0, Math.min(this.frame.shownDims[axis] - 1, index)));
    const at = this.#fraction(this.cursor);
    this.nv.scene.crosshairPos = at;
    const axes = [0, 1, 2].filter((axis) => this.cursor[axis] !== before[axis]);
    this.#look(showing(this.#view, this.#mm(at), this.#extent, axes));
  }

  moveBy(axis, voxels) {
    this.moveTo(this.cursor.map((index, one) => (one === axis ? index + voxels : index)));
  }

  /** What the image holds at the cursor: HU for CT. */
  get value() {
    return this.nv.volumes[0].getValue(...this.cursor);
  }

  /** Zoom about a voxel (shown order), which stays where it is on the screen; without one, about the cursor. */
  zoomBy(factor, shown = null) {
    const place = this.#mm(this.#fraction(shown ?? this.cursor));
    const view = shown ? this.#view : showing(this.#view, place, this.#extent);
    this.#look(zoomed(view, factor, place, this.#extent));
  }

  /** Move what is zoomed in: a place (mm) to where another one is drawn now. */
  pan(place, to) {
    this.#look(dragged(this.#view, place, to, this.#extent));
  }

  resetView() {
    this.#look(WHOLE);
  }

  #look(view) {
    this.#view = view;
    this.nv.scene.pan2Dxyzmm = [...view.pan, view.zoom];
    this.redraw();
  }

  #mm(fraction) {
    return [...this.nv.frac2mm(fraction)].slice(0, 3);
  }

  /** Of each axis, the least and greatest mm of the image. */
  get #extent() {
    const [low, high] = [this.#mm([0, 0, 0]), this.#mm([1, 1, 1])];
    return low.map((mm, axis) => [mm, high[axis]]);
  }

  /** Draw at the next opportunity, once. */
  redraw() {
    this.#stale = true;
    this.#draw();
  }

  #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      if (!this.frame) return;
      if (this.#stale) this.nv.drawScene();
      this.#stale = false;
      drawMarks(this.marks, this.canvas, this.#views(), this.clicks, this.#circle());
    });
  }

  /** Where the brush is on the canvas, round the voxel under the mouse: {depth, at, radius, erases}; null if it is nowhere. */
  #circle() {
    const tile = this.#brush && this.#tileAt(...this.#brush.at);
    const voxel = tile && this.voxelAt(...this.#brush.at);
    if (!voxel) return null;
    const { leftTopWidthHeight, fovMM } = this.nv.screenSlices[tile.index];
    const { radius, erases } = this.#brush;
    const pixels = Math.abs(leftTopWidthHeight[2] / fovMM[0]); // of a mm
    return { depth: tile.depth, at: this.#canvasPlace(voxel.shown, tile.depth), radius: radius * pixels, erases };
  }

  /** Of each view: where it is on the canvas, its depth, its slice, and functions to place voxels in it. */
  #views() {
    return this.nv.screenSlices.map(({ leftTopWidthHeight, axCorSag }) => {
      const depth = DEPTH[axCorSag];
      const [left, top, width, height] = leftTopWidthHeight;
      return {
        box: [Math.min(left, left + width), top, Math.abs(width), height],
        depth,
        number: this.cursor[depth],
        count: this.frame.shownDims[depth],
        cursor: this.#canvasPlace(this.cursor, depth),
        place: (source) => {
          const shown = this.frame.toShown(source);
          return shown[depth] === this.cursor[depth] ? this.#canvasPlace(shown, depth) : null;
        },
      };
    });
  }
}
