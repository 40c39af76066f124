"""What a rule learned on the split ``fit``, as it is recorded in the manifest and used again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ckd_cache.types import JsonObject

__all__ = ["SLOT_TYPES", "Fit", "Gate", "fit_from_json", "fit_to_json"]

SLOT_TYPES = ("masked", "shown")
"""Types of slots that can be told apart without gold: the models see the mask token, or another."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Parameters of the rule ``gate``: w_t proportional to exp(a_t + theta · phi_t).

    Attributes:
        bias: a_t by name of the teacher.
        features: names of the label-free features, in the order of the following.
        theta: weight of each feature, shared by the teachers.
        centre: subtracted from each feature.
        scale: each feature is then divided by this; > 0.
        l2: strength of the penalty on theta that cross-validation chose.
    """

    bias: Mapping[str, float]
    features: tuple[str, ...]
    theta: tuple[float, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    l2: float


@dataclass(frozen=True, slots=True)
class Fit:
    """What was learned; parts that a rule does not need are None.

    Attributes:
        on: what it was learned on and how: split, slots, documents, teacher part fingerprints,
            iterations, certificate; open, for people.
        temperatures: calibration, by teacher and type of slot (``SLOT_TYPES``).
        weights: constant weights by teacher, of the rule ``fitted`` and of fitted priors.
        gate: of the rule ``gate``.
    """

    on: JsonObject
    temperatures: Mapping[str, Mapping[str, float]] | None = None
    weights: Mapping[str, float] | None = None
    gate: Gate | None = None


def fit_to_json(fit: Fit) -> JsonObject:
    """The fit as an object of the manifest; members that are None are left out."""
    gate = fit.gate
    members: JsonObject = {
        "on": fit.on,
        "temperatures": None
        if fit.temperatures is None
        else {name: dict(by_type) for name, by_type in fit.temperatures.items()},
        "weights": None if fit.weights is None else dict(fit.weights),
        "gate": None
        if gate is None
        else {
            "bias": dict(gate.bias),
            "features": list(gate.features),
            "theta": list(gate.theta),
            "centre": list(gate.centre),
            "scale": list(gate.scale),
            "l2": gate.l2,
        },
    }
    return {name: value for name, value in members.items() if value is not None}


def fit_from_json(members: JsonObject) -> Fit:
    """The fit that ``fit_to_json`` wrote.

    Raises:
        KeyError, TypeError, ValueError: the members are not those of a fit.
    """
    gate = members.get("gate")
    return Fit(
        on=dict(members["on"]),
        temperatures=members.get("temperatures"),
        weights=members.get("weights"),
        gate=None
        if gate is None
        else Gate(
            bias=dict(gate["bias"]),
            features=tuple(gate["features"]),
            theta=tuple(float(x) for x in gate["theta"]),
            centre=tuple(float(x) for x in gate["centre"]),
            scale=tuple(float(x) for x in gate["scale"]),
            l2=float(gate["l2"]),
        ),
    )
