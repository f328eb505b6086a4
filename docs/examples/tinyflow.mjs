// Drawing and reading images with a bundle's one-call graphs, in Node (onnxruntime-node) or a browser
// (onnxruntime-web). `ort` is whichever of the two packages was imported.

const MASK = (1n << 64n) - 1n;
const MULTIPLIERS = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
const KEY_STEPS = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];

/** Four 64-bit words of Philox4x64-10 for a counter of four words and a key of two. */
export function philox([c0, c1, c2, c3], [k0, k1]) {
  for (let round = 0; round < 10; round++) {
    const low = MULTIPLIERS[0] * c0, high = MULTIPLIERS[1] * c2;
    [c0, c1, c2, c3] = [(high >> 64n) ^ c1 ^ k0, high & MASK, (low >> 64n) ^ c3 ^ k1, low & MASK];
    [k0, k1] = [(k0 + KEY_STEPS[0]) & MASK, (k1 + KEY_STEPS[1]) & MASK];
  }
  return [c0, c1, c2, c3];
}

/** Noise of images `first` to `first + count - 1`, `size` numbers each: what runtime/noise.py specifies. */
export function noise(seed, first, count, size) {
  const counters = Math.ceil(size / 8), numbers = new Float32Array(count * size);
  for (let image = 0; image < count; image++) {
    for (let c = 0; c < counters; c++) {
      const counter = 1n + (BigInt(first) + BigInt(image)) * BigInt(counters) + BigInt(c);
      philox([counter & MASK, counter >> 64n, 0n, 0n], [BigInt(seed), 0n]).forEach((word, j) => {
        const radius = Math.sqrt(-2 * Math.log((Number(word >> 32n) + 0.5) * 2 ** -32));
        const angle = Number(word & 0xffffffffn) * (2 * Math.PI * 2 ** -32);
        const at = 8 * c + 2 * j;
        if (at < size) numbers[image * size + at] = radius * Math.cos(angle);
        if (at + 1 < size) numbers[image * size + at + 1] = radius * Math.sin(angle);
      });
    }
  }
  return numbers;
}

/** Images of labels, 784 grey levels each, by a session of generate.onnx. shape: manifest.latent_shape. Which classes
 * there are only the manifest knows: where a flow draws, the number that follows the last one stands for any. */
export async function generate(ort, session, shape, labels, { seed = 0, weight, first = 0 }) {
  if (!(weight >= 0)) throw new RangeError(`weight is a number from 0, not ${weight}: manifest.defaults.weight, say`);
  if (BigInt(seed) < 0n || BigInt(seed) > MASK) throw new RangeError(`seed is from 0 to 2^64 - 1, not ${seed}`);
  if (!labels.length || labels.some((label) => label < 0)) throw new RangeError(`labels are classes from 0: ${labels}`);
  const count = labels.length, size = shape.reduce((a, b) => a * b);
  const { image } = await session.run({
    noise: new ort.Tensor("float32", noise(seed, first, count, size), [count, ...shape]),
    label: new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [count]),
    weight: new ort.Tensor("float32", new Float32Array(count).fill(weight), [count]),
  });
  return image.data;
}

/** p(y | x) of each class for `count` images of 784 grey levels, by a session of classify.onnx. */
export async function classify(ort, session, images, count) {
  const { posterior } = await session.run({ image: new ort.Tensor("uint8", images, [count, 28, 28]) });
  return posterior.data;
}
