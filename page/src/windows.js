/** Grey values that are black and white. */

const CT = {
  "Soft tissue": [-160, 240],
  Liver: [-20, 160],
  Lung: [-1350, 150],
  Bone: [-500, 1300],
  Brain: [0, 80],
};

export const OWN = "Own"; // that somebody has made by the mouse

/** Whether these are the values of a CT, which knows air; those of other images mean nothing. range: of Viewer. */
export function isCT({ least, greatest }) {
  return least < -200 && greatest > 100;
}

/** Name -> [black, white] for an image. range: of Viewer. */
export function windows(range) {
  const itsOwn = { Auto: [range.low, range.high], "Full range": [range.least, range.greatest] };
  return isCT(range) ? { ...CT, ...itsOwn } : itsOwn;
}
