"""How images are drawn: what a caller may say of it, and what that means for a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

from . import noise, sampling
from .bundle import Bundle
from .checks import in_range, one_of


class Sampling(TypedDict, total=False):
    """How latents are drawn; what is left out, or None, is the bundle's default.

    weight: of guidance, 1 is none; guidance_start: the time from which on it guides, 0 to 1 (arXiv 2404.07724);
    sampler: "sde" (Euler-Maruyama), "ode" (Euler), "heun" or "dpmpp" (DPM-Solver++(2M)); steps: of it;
    diffusion: sigma(t) = diffusion (1 - t) of "sde" and "heun", 0 is the ODE. Sampler "few" is a generator distilled
    from a solver, of which there is only the weight to choose: where it is the bundle's default and something else is
    set, the bundle's solver takes its place, with a default weight of its own.
    """

    sampler: sampling.Sampler | None
    weight: float | None
    guidance_start: float | None
    diffusion: float | None
    steps: int | None


@dataclass(frozen=True)
class Way:
    """A Sampling in full, checked."""

    seed: int
    sampler: sampling.Sampler
    steps: int
    weight: float
    guidance_start: float
    diffusion: float

    def is_one_call(self, bundle: Bundle) -> bool:
        """Whether the bundle's generate.onnx draws this way."""
        defaults = bundle.defaults
        wanted = (defaults.sampler, defaults.steps, defaults.guidance_start, 0.0)
        return (self.sampler, self.steps, self.guidance_start, self.diffusion) == wanted

    def described(self) -> dict[str, object]:
        """The settings that there are: of a generator, the seed and the weight."""
        of_few = ("seed", "sampler", "weight")
        return {name: value for name, value in asdict(self).items() if self.sampler != sampling.FEW or name in of_few}


def solver_of(bundle: Bundle, settings: Mapping[str, Any]) -> sampling.Sampler:
    """The sampler that settings name, or else the bundle's solver, or "sde" for diffusion that this lacks."""
    solver = bundle.defaults.solver
    named: sampling.Sampler | None = settings.get("sampler")
    return sampling.choose(settings, solver, solver) if named is None else named


def way_of(
    bundle: Bundle,
    seed: int,
    *,
    sampler: sampling.Sampler | None = None,
    weight: float | None = None,
    guidance_start: float | None = None,
    diffusion: float | None = None,
    steps: int | None = None,
) -> Way:
    """The settings that are given, checked, and the bundle's defaults for the others."""
    defaults = bundle.defaults
    given = {"sampler": sampler, "guidance_start": guidance_start, "diffusion": diffusion, "steps": steps}
    chosen = one_of("sampler", sampling.choose(given, defaults.sampler, defaults.solver), sampling.SAMPLERS)
    if bundle.only_generates and chosen != sampling.FEW:
        raise ValueError(f"the bundle {bundle.name} only generates, by sampler {sampling.FEW}, which has no steps")
    least, most, own_weight = 0.0, sampling.MAX_WEIGHT, defaults.solver_weight
    if chosen == sampling.FEW:
        if bundle.generator_weights is None:
            raise ValueError(
                f"the bundle {bundle.name} has no generator for sampler {sampling.FEW}: sizes fast and nano have"
            )
        (least, most), own_weight = bundle.generator_weights, defaults.weight
        spread = 0.0
    else:
        own = defaults.diffusion if chosen == defaults.solver else None
        wanted = own if diffusion is None else in_range("diffusion", diffusion, 0.0, sampling.MAX_DIFFUSION)
        spread = sampling.diffusion_of(chosen, wanted)
    start = defaults.guidance_start if guidance_start is None else guidance_start
    return Way(
        seed=in_range("seed", seed, 0, noise.MAX_SEED),
        sampler=chosen,
        steps=in_range("steps", defaults.steps if steps is None else steps, 1, sampling.MAX_STEPS),
        weight=in_range("weight", own_weight if weight is None else weight, least, most),
        guidance_start=in_range("guidance_start", start, 0.0, 1.0),
        diffusion=spread,
    )
