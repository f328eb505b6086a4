"""Solvers that carry noise, t = 0, to data, t = 1, and the closed forms they stand on.

Everything is plain arithmetic, so that numpy arrays and torch tensors both pass. A velocity field is a
function of (x, t) with t a float; the state x keeps its dtype, the field may compute in another.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

Array = Any  # a numpy array or a torch tensor
Velocity = Callable[[Array, float], Array]
Solver = Literal["sde", "ode", "heun", "dpmpp"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
FEW: Literal["few"] = "few"  # no solver, but a generator that was distilled from one
Sampler = Solver | Literal["few"]
SAMPLERS: tuple[Sampler, ...] = (*SOLVERS, FEW)
STOCHASTIC: tuple[Solver, ...] = ("sde", "heun")  # may have diffusion
MAX_STEPS, MAX_WEIGHT, MAX_DIFFUSION = 1000, 100.0, 10.0  # that anybody may ask for
SDE_DIFFUSION = 1.0  # of "sde" where nothing else is said; the others have none


def time_grid(steps: int) -> list[float]:
    """Times 0 to 1 in equal steps: steps + 1 of them."""
    return [step / steps for step in range(steps + 1)]


def guided(conditional: Array, unconditional: Array, weight: float | Array) -> Array:
    """Classifier-free guidance of a velocity (arXiv 2207.12598): weight 0 ignores the class, 1 is plain."""
    return unconditional + weight * (conditional - unconditional)


def drift(velocity: Array, x: Array, t: float, diffusion: float) -> Array:
    """Drift of the SDE dx = [v + d^2/2 (1 - t) (t v - x)] dt + d (1 - t) dW, whose marginals are the ODE's.

    It is v + sigma^2/2 * score with sigma(t) = d (1 - t) and score = (t v - x) / (1 - t).
    """
    if diffusion == 0:
        return velocity
    return velocity + 0.5 * diffusion**2 * (1 - t) * (t * velocity - x)


def noise_scale(t: float, t_next: float, diffusion: float) -> float:
    """Standard deviation of the integral of d (1 - t) dW from t to t_next."""
    return diffusion * math.sqrt(((1 - t) ** 3 - (1 - t_next) ** 3) / 3)


def heun(
    velocity: Velocity,
    x: Array,
    times: Sequence[float],
    diffusion: float = 0.0,
    noise: Callable[[int], Array] | None = None,
) -> Iterator[Array]:
    """Integrate by Heun's method, second order for the ODE; gives the state at each of the times, x first.

    With diffusion > 0 the SDE's noise of step k, standard normal of x's shape, is noise(k); both stages share
    it. A last step that ends at t = 1 is Euler's, since the field of data without noise is rough there
    (arXiv 2206.00364, algorithm 1). Two evaluations a step otherwise.
    """
    if diffusion and noise is None:
        raise ValueError("diffusion > 0 needs noise")
    yield x
    for step, (t, t_next) in enumerate(pairwise(times)):
        size = t_next - t
        kick = noise_scale(t, t_next, diffusion) * noise(step) if diffusion and noise else 0.0
        slope = drift(velocity(x, t), x, t, diffusion)
        predicted = x + size * slope + kick
        if t_next == 1:
            x = predicted
        else:
            next_slope = drift(velocity(predicted, t_next), predicted, t_next, diffusion)
            x = x + 0.5 * size * (slope + next_slope) + kick
        yield x


def euler(
    velocity: Velocity,
    x: Array,
    times: Sequence[float],
    diffusion: float = 0.0,
    noise: Callable[[int], Array] | None = None,
) -> Iterator[Array]:
    """Integrate by Euler's method or, with diffusion > 0, that of Euler and Maruyama; as heun, at first order.

    One evaluation a step.
    """
    if diffusion and noise is None:
        raise ValueError("diffusion > 0 needs noise")
    yield x
    for step, (t, t_next) in enumerate(pairwise(times)):
        x = x + (t_next - t) * drift(velocity(x, t), x, t, diffusion)
        if diffusion and noise:
            x = x + noise_scale(t, t_next, diffusion) * noise(step)
        yield x


def dpmpp(velocity: Velocity, x: Array, times: Sequence[float]) -> Iterator[Array]:
    """Integrate the ODE by DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2); gives the states as heun does.

    It extrapolates the data x + (1 - t) v that the field predicts, in half the log-ratio of signal to noise,
    log(t / (1 - t)), and has second order with one evaluation a step. The first two steps and the last are of first
    order, since that ratio is infinite at both ends.
    """
    yield x
    before, length_before = None, math.inf
    for t, t_next in pairwise(times):
        data = x + (1 - t) * velocity(x, t)
        kept = (1 - t_next) / (1 - t)  # of the noise
        length = math.log(t_next / t / kept) if t > 0 and t_next < 1 else math.inf
        ahead = 0.0 if before is None or math.inf in (length, length_before) else 0.5 * length / length_before
        extrapolated = data if before is None else data + ahead * (data - before)
        x = kept * x + (t_next - t * kept) * extrapolated
        before, length_before = data, length
        yield x


def solve(
    sampler: Solver,
    velocity: Velocity,
    x: Array,
    times: Sequence[float],
    diffusion: float = 0.0,
    noise: Callable[[int], Array] | None = None,
) -> Iterator[Array]:
    """Integrate by the solver of this name: "ode" is euler, "sde" euler with diffusion; ValueError for any other."""
    if sampler == "heun":
        return heun(velocity, x, times, diffusion, noise)
    if sampler == "dpmpp":
        return dpmpp(velocity, x, times)
    if sampler in ("ode", "sde"):
        return euler(velocity, x, times, diffusion, noise)
    raise ValueError(f"sampler must be one of {', '.join(SOLVERS)}, not {sampler!r}")


def diffusion_of(sampler: Sampler, given: float | None) -> float:
    """The diffusion that is given, or the sampler's own; ValueError where it is given to one that can't have any."""
    if given and sampler not in STOCHASTIC:
        raise ValueError(f"diffusion goes with sampler {' or '.join(STOCHASTIC)}, not {sampler}")
    if given is not None:
        return given
    return SDE_DIFFUSION if sampler == "sde" else 0.0


def choose(settings: Mapping[str, Any], sampler: Sampler, solver: Solver) -> Sampler:
    """The sampler that settings ask for: by name, by what only solvers have, or else `sampler`.

    Diffusion asks for "sde" where the solver has none. ValueError where it is "few" by name and yet something is set
    that only solvers have.
    """
    of_solvers = [name for name in ("steps", "guidance_start", "diffusion") if settings.get(name) is not None]
    named: Sampler | None = settings.get("sampler")
    if named == FEW and of_solvers:
        raise ValueError(f"{of_solvers[0]} goes with sampler {' or '.join(SOLVERS)}, not {FEW}")
    if named is not None:
        return named
    if settings.get("diffusion") and solver not in STOCHASTIC:
        return "sde"
    return solver if of_solvers else sampler


def last(states: Iterable[Array]) -> Array:
    """The last state that a solver gives."""
    (state,) = deque(states, maxlen=1)
    return state
