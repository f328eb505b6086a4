"""The one-call graphs give in Node and in a browser what they give in Python."""

import http.server
import json
import shutil
import subprocess
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import runtime

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parents[1] / "docs" / "examples"
MODULES = HERE / "node_modules"
SEED, LABELS = 2**63 + 5, [3, 1, 4, 1, 5, 9, 2, 6]
PAGE_SEED = 5  # instead of the time, by which one page in some hundreds has three digits that look like letters
NODE = """
import {{ results }} from "./agree.mjs";
import * as ort from "onnxruntime-node";
console.log(await results(ort, (file) => ort.InferenceSession.create(`model/${{file}}`), {question}));
"""
PAGE = """
<script type="module">
import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import {{ results }} from "./agree.mjs";
ort.env.wasm.wasmPaths = new URL("./ort/", location.href).href;
ort.env.wasm.numThreads = 1;
const answer = results(ort, (file) => ort.InferenceSession.create(`model/${{file}}`), {question});
fetch("/answer", {{ method: "POST", body: await answer.catch((error) => JSON.stringify({{ error: String(error) }})) }});
</script>
"""


WATCH = """
<script type="module">
const context = document.querySelector("canvas").getContext("2d");
const answer = setInterval(() => {
  const read = document.querySelector("p").textContent;
  if (!read) return;
  clearInterval(answer);
  const levels = context.getImageData(0, 0, 280, 28).data.filter((_, i) => i % 4 === 0);
  fetch("/answer", { method: "POST", body: JSON.stringify({ read, levels: [...levels] }) });
}, 100);
</script>
"""
VECTORS = """
import {{ noise }} from "./tinyflow.mjs";
const numbers = {vectors}.map(({{ seed, image, size }}) => noise(seed, image, 1, size));
console.log(JSON.stringify(numbers.map((each) => [...each.slice(0, 4), each.at(-1)])));
"""
# Of each data set, and in float16, int8 and int4.
ALL_KINDS = ("MNIST", "MNIST-compact", "MNIST-nano", "EMNIST-balanced", "EMNIST-balanced-fast", "FashionMNIST")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def needs(package, *programs):
    found = next(filter(None, map(shutil.which, programs)), None)
    if found is None:
        pytest.skip(f"there is no {' or '.join(programs)} here")
    if not (MODULES / package).is_dir():
        pytest.skip(f"{package} is not installed: make web")
    return found


@pytest.fixture(params=["MNIST", "EMNIST-balanced"])
def model(request):
    return runtime.load(request.param)


@pytest.fixture(params=ALL_KINDS)
def any_model(request):
    return runtime.load(request.param)


@pytest.fixture
def folder(tmp_path):
    """A folder with the example and the question."""
    shutil.copy(EXAMPLES / "tinyflow.mjs", tmp_path)
    shutil.copy(HERE / "agree.mjs", tmp_path)
    return tmp_path


def laid_beside(model, folder):
    """The model's bundle in a folder, as model/, unpacked where it is packed."""
    if model.bundle.path.is_dir():
        (folder / "model").symlink_to(model.bundle.path)
        return
    with tarfile.open(model.bundle.path) as archive:
        archive.extractall(folder / "packed", filter="data")
    (unpacked,) = (folder / "packed").iterdir()
    (folder / "model").symlink_to(unpacked)


def question(model):
    """What is asked; the seed as text, since it is larger than what JavaScript's numbers hold."""
    bundle = model.bundle
    asked = {"shape": model.latent_shape, "labels": LABELS, "seed": str(SEED), "weight": bundle.defaults.weight}
    return json.dumps({**asked, "read": not bundle.only_generates})


def check(model, answer):
    shape = (len(LABELS), *model.latent_shape)
    drawn = np.array(answer["noise"], np.float32).reshape(shape)
    np.testing.assert_allclose(drawn, runtime.noise.normal(SEED, 0, len(LABELS), model.latent_shape), atol=1e-6)
    images = np.array(answer["images"], np.uint8).reshape(-1, 28, 28)
    ours = model.generate(LABELS, seed=SEED)
    difference = np.abs(images.astype(int) - ours)
    assert difference.max() <= 1
    assert difference.mean() < 1e-3
    assert ("posterior" in answer) != model.bundle.only_generates
    if "posterior" in answer:
        posterior = np.array(answer["posterior"], np.float32).reshape(len(LABELS), -1)
        np.testing.assert_allclose(posterior, model.classify(images), atol=1e-4)


def test_node_agrees_with_python(any_model, folder):
    node = needs("onnxruntime-node", "node")
    laid_beside(any_model, folder)
    (folder / "node_modules").symlink_to(MODULES)
    script = folder / "main.mjs"
    script.write_text(NODE.format(question=question(any_model)))
    answer = subprocess.run([node, script], cwd=folder, check=True, capture_output=True, text=True).stdout
    check(any_model, json.loads(answer))


def test_a_browser_agrees_with_python(any_model, folder):
    laid_beside(any_model, folder)
    check(any_model, asked_of_a_browser(folder, PAGE.format(question=question(any_model))))


def test_the_example_of_a_page_draws_a_digit_of_each_class(folder, model):
    laid_beside(model, folder)
    page = (EXAMPLES / "browser.html").read_text()
    assert "seed: Date.now()" in page
    page = page.replace("Date.now()", str(PAGE_SEED))
    shown = asked_of_a_browser(folder, page + WATCH)
    images = np.array(shown["levels"], np.uint8).reshape(28, 10, 28).swapaxes(0, 1)
    assert np.abs(images.astype(int) - model.generate(np.arange(10), seed=PAGE_SEED)).max() <= 1
    read = model.classify(images).argmax(1)
    assert shown["read"] == f"read as {' '.join(model.classes[label] for label in read)}"
    assert (read == np.arange(10)).sum() >= 6  # EMNIST's 0 and 1 are O and I as well
    assert images.max((1, 2)).min() > 127


def asked_of_a_browser(folder, page):
    """What a page in a folder posts, as JSON, when a browser opens it."""
    browser = needs("onnxruntime-web", *BROWSERS)
    (folder / "ort").symlink_to(MODULES / "onnxruntime-web" / "dist")
    (folder / "index.html").write_text(page)
    answers = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_POST(self):
            answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            answered.set()

        def log_message(self, *_):
            pass

    answered = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += f" --disable-component-update --disable-sync --user-data-dir={folder / 'profile'}"
    command = [
        browser,
        *flags.split(),
        "--remote-debugging-port=0",
        f"http://127.0.0.1:{server.server_port}/index.html",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            assert answered.wait(120), "the page gave no answer"
        finally:
            process.terminate()
            server.shutdown()
            server.server_close()
    assert "error" not in answers[0], answers[0]
    return answers[0]


@pytest.mark.parametrize("name", ["MNIST", "MNIST-nano"])
def test_the_example_for_node_draws_and_reads_what_it_can(tmp_path, name):
    node = needs("onnxruntime-node", "node")
    for file in ("tinyflow.mjs", "node.mjs"):
        shutil.copy(EXAMPLES / file, tmp_path)
    (tmp_path / "node_modules").symlink_to(MODULES)
    command = [node, tmp_path / "node.mjs", runtime.places.SHIPPED / name, "3", "1", "4"]
    found = subprocess.run(command, check=True, capture_output=True)
    assert found.stdout.startswith(b"P5 28 84 255\n")
    assert len(found.stdout) == len(b"P5 28 84 255\n") + 3 * 784
    assert ("3 is read as 3" in found.stderr.decode()) == (name == "MNIST")


def test_the_noise_in_javascript_has_the_specification_s_vectors(tmp_path):
    node = needs("onnxruntime-node", "node")
    shutil.copy(EXAMPLES / "tinyflow.mjs", tmp_path)
    (tmp_path / "main.mjs").write_text(VECTORS.format(vectors=(EXAMPLES / "noise.json").read_text()))
    answer = subprocess.run([node, tmp_path / "main.mjs"], check=True, capture_output=True, text=True).stdout
    for vector, numbers in zip(json.loads((EXAMPLES / "noise.json").read_text()), json.loads(answer), strict=True):
        np.testing.assert_allclose(numbers, [*vector["first"], vector["last"]], atol=1e-6)
