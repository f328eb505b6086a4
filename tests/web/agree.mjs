// What the tests ask of Node and the browser: noise and images of some labels, and posteriors where the model can read.
import { classify, generate, noise } from "./tinyflow.mjs";

export async function results(ort, open, { shape, labels, seed, weight, read }) {
  const images = await generate(ort, await open("generate.onnx"), shape, labels, { seed, weight });
  const drawn = noise(seed, 0, labels.length, shape.reduce((a, b) => a * b));
  const answer = { noise: [...drawn], images: [...images] };
  if (read) answer.posterior = [...(await classify(ort, await open("classify.onnx"), images, labels.length))];
  return JSON.stringify(answer);
}
