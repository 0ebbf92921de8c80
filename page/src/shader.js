/** How a pixel of a slice is coloured: NiiVue's own way for one image and one label map, and nothing beside. It takes
 * half the time where there is no GPU. Labels are filled faintly and have a firm edge.
 */
export const SLICE = `#version 300 es
precision highp int;
precision highp float;
uniform highp sampler3D volume;
uniform highp sampler3D drawing;
uniform highp sampler2D colormap;
uniform float drawOpacity;
uniform float drawRimOpacity;
in vec3 texPos;
out vec4 color;

void main() {
  vec3 right = dFdx(texPos);
  vec3 up = dFdy(texPos);
  color = vec4(texture(volume, texPos).rgb, 1.0);
  float label = texture(drawing, texPos).r;
  if (label == 0.0 || drawOpacity == 0.0) return;
  float rows = float(textureSize(colormap, 0).y);
  vec4 fill = texture(colormap, vec2((label * 255.0 + 0.5) / 256.0, (rows - 0.5) / rows));
  if (fill.a == 0.0) return; // a label that is hidden
  bool rim = texture(drawing, texPos - right).r != label || texture(drawing, texPos + right).r != label
    || texture(drawing, texPos - up).r != label || texture(drawing, texPos + up).r != label;
  color.rgb = mix(color.rgb, fill.rgb, rim ? drawRimOpacity : fill.a * drawOpacity);
}`;


/** Of NiiVue's own programs those that this page never draws with: its slices, renderings of volumes, their gradients,
 * images of several components. Fragment shaders are told by the names of their uniforms.
 */
const UNUSED = /uniform [^;]*\b(axCorSag|rayDir|gradientAmount|dX|xyzaFrac)\b/;
const NOTHING = `#version 300 es
precision highp float;
out vec4 color;
void main() {
  color = vec4(0.0);
}`;

/** While `action` makes NiiVue's programs on a canvas, compile nothing for the unused ones: half a second without a GPU. */
export async function sparingly(canvas, action) {
  const gl = canvas.getContext("webgl2", { alpha: true, antialias: false });
  if (!gl) return action(); // NiiVue says what is missing
  const { shaderSource } = gl;
  gl.shaderSource = (shader, source) => {
    const isFragment = gl.getShaderParameter(shader, gl.SHADER_TYPE) === gl.FRAGMENT_SHADER;
    shaderSource.call(gl, shader, isFragment && UNUSED.test(source) ? NOTHING : source);
  };
  try {
    return await action();
  } finally {
    delete gl.shaderSource;
  }
}
