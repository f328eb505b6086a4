// What the tests ask of Node and the browser: noise, images and posteriors of some labels.
import { classify, generate, noise } from "./tinyflow.mjs";

export async function results(ort, open, { shape, labels, seed, weight }) {
  const images = await generate(ort, await open("generate.onnx"), shape, labels, { seed, weight });
  const posterior = await classify(ort, await open("classify.onnx"), images, labels.length);
  const drawn = noise(seed, 0, labels.length, shape.reduce((a, b) => a * b));
  return JSON.stringify({ noise: [...drawn], images: [...images], posterior: [...posterior] });
}
