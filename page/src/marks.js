/** What is drawn above the slices: the cursor's cross, the clicks, the brush, the directions and the number of the slice. */

import { SIDES } from "./sides.js";

const NAMES = ["Sagittal", "Coronal", "Axial"];
const ROOM = 300; // pixels that the number of the slice and the letter beside it need
const INSIDE = "#3ddc84";
const OUTSIDE = "#ff5c6c";

/** views: of Viewer. clicks: {position, inside, label, pending} each. brush: {depth, at, radius, erases} or null. */
export function drawMarks(canvas, slices, views, clicks, brush) {
  if (canvas.width !== slices.width || canvas.height !== slices.height) {
    canvas.width = slices.width;
    canvas.height = slices.height;
  }
  const scale = slices.width / slices.clientWidth || 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (const view of views) {
    context.save();
    context.beginPath();
    context.rect(...view.box);
    context.clip();
    drawCross(context, view, scale);
    drawText(context, view, scale);
    for (const click of clicks) drawClick(context, view.place(click.position), click, scale);
    if (brush?.depth === view.depth) drawBrush(context, brush, scale);
    context.restore();
  }
}

function drawCross(context, { box, cursor }, scale) {
  if (!cursor) return;
  const [left, top, width, height] = box;
  const [x, y] = cursor.map((at) => Math.round(at) + 0.5);
  const gap = 9 * scale;
  context.strokeStyle = "rgba(125, 196, 255, 0.5)";
  context.lineWidth = scale;
  context.beginPath();
  for (const [from, to] of [[left, x - gap], [x + gap, left + width]]) {
    context.moveTo(from, y);
    context.lineTo(to, y);
  }
  for (const [from, to] of [[top, y - gap], [y + gap, top + height]]) {
    context.moveTo(x, from);
    context.lineTo(x, to);
  }
  context.stroke();
}

function drawText(context, { box, depth, number, count }, scale) {
  const [left, top, width, height] = box;
  const inset = 8 * scale;
  const write = (text, x, y, align, baseline) => {
    context.textAlign = align;
    context.textBaseline = baseline;
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  };
  context.font = `500 ${12 * scale}px system-ui, sans-serif`;
  context.strokeStyle = "#000";
  context.lineWidth = 2 * scale;
  context.fillStyle = "rgba(230, 236, 244, 0.85)";
  write(`${NAMES[depth]}  ${number + 1} / ${count}`, left + inset, top + height - inset, "left", "bottom");
  context.fillStyle = "rgba(230, 236, 244, 0.55)";
  const sides = SIDES[depth];
  write(sides.left, left + inset, top + height / 2, "left", "middle");
  write(sides.right, left + width - inset, top + height / 2, "right", "middle");
  write(sides.top, left + width / 2, top + inset, "center", "top");
  if (width > ROOM * scale) write(sides.bottom, left + width / 2, top + height - inset, "center", "bottom");
}

function drawClick(context, at, { inside, pending }, scale) {
  if (!at) return;
  const radius = 4.5 * scale;
  context.beginPath();
  context.arc(at[0], at[1], radius, 0, 2 * Math.PI);
  context.fillStyle = inside ? INSIDE : OUTSIDE;
  context.globalAlpha = pending ? 0.6 : 1;
  context.fill();
  context.lineWidth = 1.5 * scale;
  context.strokeStyle = "#0b0e13";
  context.stroke();
  context.beginPath();
  context.moveTo(at[0] - radius / 2, at[1]);
  context.lineTo(at[0] + radius / 2, at[1]);
  if (inside) {
    context.moveTo(at[0], at[1] - radius / 2);
    context.lineTo(at[0], at[1] + radius / 2);
  }
  context.stroke();
  context.globalAlpha = 1;
}

function drawBrush(context, { at, radius, erases }, scale) {
  if (!at) return;
  context.beginPath();
  context.arc(at[0], at[1], Math.max(radius, 2 * scale), 0, 2 * Math.PI);
  for (const [width, colour] of [[3, "rgba(11, 14, 19, 0.7)"], [1.25, erases ? OUTSIDE : "#fff"]]) {
    context.lineWidth = width * scale;
    context.strokeStyle = colour;
    context.stroke();
  }
}
