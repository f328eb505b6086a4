"""``info``: the shipped bundles, or those that are named; one in detail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import runtime
from commands import plots
from commands.models import bundle_called, bundle_names, bundle_path
from commands.progress import note
from evaluation import benchmark
from evaluation.evaluator import WHICH
from runtime import places
from runtime.manifests import GENERATE
from runtime.sessions import available_providers

SHOWN = ("fidelity", "frechet_multiple", "recall", "coverage", "accuracy")  # of what was measured


def info(names: Sequence[str], plot: Path | None, as_json: bool) -> str:
    """All shipped bundles in short, or those of these names or paths, one in detail; lines or one JSON object.

    plot: a file for their measured quality against size and cost. Raises BundleError for named ones that can't be read,
    once what is known of the others is printed.
    """
    read, refused = _read(names or bundle_names())
    if not names:
        for why in refused:
            note(why)
        refused = []
    if plot is not None and read:
        plots.require_matplotlib()
        plots.draw_ladder([_facts(bundle, detailed=True) for bundle in read], plot)
    found = [_facts(bundle, detailed=bool(names)) for bundle in read]
    versions = benchmark.machine()["versions"]
    providers = available_providers()
    if as_json:
        said = json.dumps({"bundles": found, "versions": versions, "providers": providers})
    else:
        lines = _lines(found[0]) if found and len(names) == 1 else _table(found)
        in_words = ", ".join(f"{package} {version}" for package, version in versions.items())
        said = "\n".join([*lines, f"versions: {in_words}", f"execution providers: {', '.join(providers)}"])
    if refused:
        if read:
            click.echo(said)
        raise runtime.BundleError("; ".join(refused))
    return said


def _read(names: Sequence[str]) -> tuple[list[runtime.Bundle], list[str]]:
    """Those bundles that can be read, and of the others why not."""
    read, refused = [], []
    for name in names:
        try:
            read.append(bundle_called(name))
        except runtime.BundleError as error:
            refused.append(str(error))
    return read, refused


def _facts(bundle: runtime.Bundle, detailed: bool) -> dict[str, Any]:
    """What a bundle says of itself. Reading it has verified its hashes."""
    manifest = bundle.manifest
    facts = {
        "name": bundle.name,
        "path": places.as_text(bundle.path),
        "shipped": bundle.path.resolve().parent == places.SHIPPED,
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
            f"{facts['name'] if facts['path'] == str(bundle_path(facts['name'])) else facts['path']}:",
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
        "Hashes verified. Figures are of test images, by the first evaluator; `info` says more of a single one.",
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
