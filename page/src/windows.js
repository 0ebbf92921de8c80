/** Grey values that are black and white. */

const CT = {
  "Soft tissue": [-160, 240],
  Liver: [-20, 160],
  Lung: [-1350, 150],
  Bone: [-500, 1300],
  Brain: [0, 80],
};

export const OWN = "Own"; // that somebody has made by the mouse

/** Name -> [black, white] for an image. range: of Viewer. CT knows air; of other images the values mean nothing. */
export function windows({ low, high, least, greatest }) {
  const isCT = least < -200 && greatest > 100;
  const own = { Auto: [low, high], "Full range": [least, greatest] };
  return isCT ? { ...CT, ...own } : own;
}
