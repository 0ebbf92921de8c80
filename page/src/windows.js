/** Grey values that are black and white. */

const CT = {
  "Soft tissue": [-160, 240],
  Liver: [-20, 160],
  Lung: [-1350, 150],
  Bone: [-500, 1300],
  Brain: [0, 80],
};

const FLAT = 50; // HU, which the noise of any CT spans

export const OWN = "Own"; // that somebody has made by the mouse

/** Whether these are the values of a CT, which knows air; those of other images mean nothing. range: of Viewer. */
export function isCT({ least, greatest }) {
  return least < -200 && greatest > 100;
}

/** Why an image is hardly of the modality that a model is for, in a sentence; empty where nothing says so. As the server says. */
export function doubt({ modality = "" }, { least, greatest }) {
  const kind = modality.toUpperCase();
  if (kind === "CT" && least >= 0) return "The model is for CT in HU, and nothing in this image is below 0: it is no CT, or has other units.";
  if (kind === "CT" && greatest - least < FLAT) return "The model is for CT in HU, and the values of this image span few units: it is no CT, or was normalised.";
  if (["MR", "MRI"].includes(kind) && least < -200) return "The model is for MR, and this image has values below -200, as CT has.";
  return "";
}

/** Name -> [black, white] for an image. range: of Viewer. */
export function windows(range) {
  const itsOwn = { Auto: [range.low, range.high], "Full range": [range.least, range.greatest] };
  return isCT(range) ? { ...CT, ...itsOwn } : itsOwn;
}
