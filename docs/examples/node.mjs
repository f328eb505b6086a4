// npm install onnxruntime-node
// ORT_DISABLE_TELEMETRY=1 node node.mjs ../../models_onnx/MNIST 3 1 4 > digits.pgm
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { classify, generate } from "./tinyflow.mjs";

const [folder, ...labels] = process.argv.slice(2);
if (!labels.length) {
  console.error("usage: node node.mjs FOLDER_OF_A_BUNDLE LABEL ...");
  process.exit(1);
}
const manifest = JSON.parse(await readFile(join(folder, "manifest.json")));
const open = (file) => ort.InferenceSession.create(join(folder, file));
const images = await generate(ort, await open("generate.onnx"), manifest.latent_shape, labels.map(Number), {
  weight: manifest.defaults.weight,
});
process.stdout.write(`P5 28 ${28 * labels.length} 255\n`);
process.stdout.write(images);
if ("classify.onnx" in manifest.files) { // or else it only generates
  const posterior = await classify(ort, await open("classify.onnx"), images, labels.length);
  const { classes } = manifest.dataset;
  labels.forEach((label, i) => {
    const row = posterior.subarray(i * classes.length, (i + 1) * classes.length);
    const best = row.indexOf(Math.max(...row));
    console.error(`${classes[label] ?? "any"} is read as ${classes[best]}, ${(100 * row[best]).toFixed(1)} %`);
  });
}
