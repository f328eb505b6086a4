"""``info``: the shipped bundles, or those that are named; one in detail."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import runtime
from commands import plots
from commands.models import bundle_called, bundle_names, bundle_path
from commands.progress import note
from evaluation import benchmark
from evaluation.evaluator import WHICH
from runtime.manifests import GENERATE
from runtime.sessions import available_providers

SHOWN = ("fidelity", "frechet_multiple", "recall", "coverage", "accuracy")  # of what was measured


def info(names: Sequence[str], plot: Path | None, as_json: bool) -> str:
    """All shipped bundles in short, or those of these names or paths, one in detail; lines or one JSON object.

    plot: a file for their measured quality against size and cost.
    """
    read = list(map(bundle_called, names)) or list(_readable(bundle_names()))
    if plot is not None:
        plots.require_matplotlib()
        plots.draw_ladder([_facts(bundle, detailed=True) for bundle in read], plot)
    found = [_facts(bundle, detailed=bool(names)) for bundle in read]
    versions = benchmark.machine()["versions"]
    providers = available_providers()
    if as_json:
        return json.dumps({"bundles": found, "versions": versions, "providers": providers})
    lines = _lines(found[0]) if len(names) == 1 else _table(found)
    in_words = ", ".join(f"{package} {version}" for package, version in versions.items())
    return "\n".join([*lines, f"versions: {in_words}", f"execution providers: {', '.join(providers)}"])


def _readable(names: Sequence[str]) -> Iterator[runtime.Bundle]:
    """Those bundles that can be read; of the others a line says why not."""
    for name in names:
        try:
            yield bundle_called(name)
        except runtime.BundleError as error:
            note(str(error))


def _facts(bundle: runtime.Bundle, detailed: bool) -> dict[str, Any]:
    """What a bundle says of itself. Reading it has verified its hashes."""
    manifest, named = bundle.manifest, bundle_path(bundle.name)
    facts = {
        "name": bundle.name,
        "path": str(bundle.path),
        "found_by_name": named is not None and named.resolve() == bundle.path.resolve(),
        "dataset": manifest["dataset"]["key"],
        "classes": len(bundle.classes),
        "autoencoder": manifest.get("autoencoder"),
        "networks": _networks(manifest),
        "parameters": manifest["parameters"],
        "storage": manifest["storage"],
        "bytes": sum(map(len, bundle.graphs.values())) if bundle.path.is_dir() else bundle.path.stat().st_size,
        "defaults": manifest["defaults"],
        "measured": manifest["measured"],
        "checksum": bundle.checksum,
        "verified": True,
    }
    if detailed:
        facts |= {
            "class_names": list(bundle.classes),
            "latent_shape": list(bundle.latent_shape),
            "validation": (manifest.get("classifier") or {}).get("validation", {}),
            "files": manifest["files"],
            "provenance": manifest["provenance"],
        }
    return facts


def _networks(manifest: Mapping[str, Any]) -> list[str]:
    """What a bundle is made of."""
    return [
        *([manifest["autoencoder"], "flow"] if "autoencoder" in manifest else []),
        *(["generator"] if "generator" in manifest else []),
    ]


def _table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row for each bundle, and what stands in the columns."""
    if not found:
        return ["no bundles are shipped"]
    head = ["", "classes", "parameters", "KB", "stored in", *(figure.replace("_", " ") for figure in SHOWN)]
    rows = [
        [
            f"{facts['name']}:",
            str(facts["classes"]),
            f"{facts['parameters']:,}",
            f"{facts['bytes'] / 1024:,.0f}",
            facts["storage"],
            *(f"{facts['measured'][figure]:.3f}" if figure in facts["measured"] else "-" for figure in SHOWN),
        ]
        for facts in found
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        *("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in [head, *rows]),
        "Hashes verified. Figures are of test images, by the first evaluator; `info NAME` says more of one.",
    ]


def _lines(facts: dict[str, Any]) -> list[str]:
    """A bundle in detail."""
    return [
        f"{facts['name']}: {facts['classes']} classes of {facts['dataset']}, {' and '.join(facts['networks'])}, "
        f"{facts['parameters']:,} parameters, {facts['bytes'] / 1024:,.0f} KB in {facts['storage']}, hashes verified",
        f"  path      {facts['path']}",
        f"  checksum  {facts['checksum']}",
        f"  defaults  {_pairs(facts['defaults'])}",
        *_measured(facts["measured"]),
        f"  classes   {' '.join(facts['class_names'])}",
        f"  latent    {' x '.join(map(str, facts['latent_shape']))}",
        f"  trained   {_trained(facts['provenance'])}",
        *(
            f"  {file:16s} {of['bytes']:>9,} bytes, {of['parameters']:>7,} constants, "
            f"{of['multiply_adds']:>9,} multiply-adds a row, {of['largest_error']:.0e} "
            + ("of pixels differ from torch's" if file == GENERATE else "off torch")
            for file, of in facts["files"].items()
        ),
    ]


def _measured(figures: dict[str, Any]) -> list[str]:
    first = {name: value for name, value in figures.items() if name not in WHICH}
    others = [which for which in WHICH if which in figures]
    return [
        f"  measured  {_pairs(first) or 'nothing yet'}",
        *(f"  by the {which} evaluator {_pairs(figures[which])}" for which in others),
    ]


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
    )


def _trained(provenance: dict[str, Any]) -> str:
    networks = {name: facts for name, facts in provenance.items() if name != "versions"}
    return "; ".join(
        f"{name} {_epochs(facts)} epochs, checkpoint {facts['sha256'][:12]}" for name, facts in networks.items()
    )


def _epochs(facts: dict[str, Any]) -> str:
    """Of every training that a checkpoint has been through, the first one first."""
    before = facts.get("before")
    return f"{_epochs(before)} + {facts['total_epochs']}" if before else str(facts["total_epochs"])
