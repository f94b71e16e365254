"""The parameters of a sweep: every distribution of wandb's format, drawn by an Optuna trial.

Distributions that Optuna lacks (normal, beta, probabilities) are drawn through their inverse distribution function
from one number in (0, 1), which is what the search then sees.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from scipy import stats

from src.config.nearest import nearest
from src.core.errors import UserError

# distribution → the keys that it needs, and those that it may have
_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ()),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": (("min", "max"), ()),
    "uniform": (("min", "max"), ()),
    "q_uniform": (("min", "max"), ("q",)),
    "log_uniform": (("min", "max"), ()),
    "q_log_uniform": (("min", "max"), ("q",)),
    "inv_log_uniform": (("min", "max"), ()),
    "log_uniform_values": (("min", "max"), ()),
    "q_log_uniform_values": (("min", "max"), ("q",)),
    "inv_log_uniform_values": (("min", "max"), ()),
    "normal": ((), ("mu", "sigma")),
    "q_normal": ((), ("mu", "sigma", "q")),
    "log_normal": ((), ("mu", "sigma")),
    "q_log_normal": ((), ("mu", "sigma", "q")),
    "beta": ((), ("a", "b")),
    "q_beta": ((), ("a", "b", "q")),
}


class Trial(Protocol):
    """The part of `optuna.Trial` that draws a parameter: Optuna is an extra, and reading a sweep does not need it."""

    def suggest_categorical(self, name: str, choices: list[str], /) -> Any:
        """Draw one of `choices`."""

    def suggest_int(self, name: str, low: int, high: int, /) -> int:
        """Draw a whole number, both ends included."""

    def suggest_float(self, name: str, low: float, high: float, /, *, log: bool = False) -> float:
        """Draw a number, in its logarithm if `log`."""


class LowEnd:
    """A trial at the low end of every range, and of the first of all choices: an example of a sweep's command."""

    def suggest_categorical(self, name: str, choices: list[str], /) -> Any:
        """The first of `choices`."""
        return choices[0]

    def suggest_int(self, name: str, low: int, high: int, /) -> int:
        """The lower bound."""
        return low

    def suggest_float(self, name: str, low: float, high: float, /, *, log: bool = False) -> float:
        """The lower bound."""
        return low


class Parameter(Protocol):
    """One parameter of a sweep."""

    def draw(self, trial: Trial, name: str) -> Any:
        """The trial's value of it."""

    def grid(self) -> list[Any] | None:
        """Values of a grid as Optuna takes them, or None if there are infinitely many."""


@dataclass(frozen=True)
class Constant:
    """`value`: the same in every trial."""

    value: Any

    def draw(self, trial: Trial, name: str) -> Any:
        """The value; nothing to search."""
        return self.value

    def grid(self) -> list[Any] | None:
        """One value that takes no part in the search."""
        return []


@dataclass(frozen=True)
class Choice:
    """`values`: one of them, which may be lists, mappings or null."""

    values: tuple[Any, ...]

    def draw(self, trial: Trial, name: str) -> Any:
        """One of the values; Optuna sees them as JSON."""
        return json.loads(trial.suggest_categorical(name, self._labels()))

    def grid(self) -> list[Any]:
        """All of them."""
        return self._labels()

    def _labels(self) -> list[str]:
        return [json.dumps(value, ensure_ascii=False) for value in self.values]


@dataclass(frozen=True)
class Integers:
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    def draw(self, trial: Trial, name: str) -> int:
        """One of them."""
        return trial.suggest_int(name, self.low, self.high)

    def grid(self) -> list[Any]:
        """All of them."""
        return list(range(self.low, self.high + 1))


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, uniform or uniform in the logarithm, rounded to multiples of `q` if given."""

    low: float
    high: float
    log: bool = False
    q: float | None = None

    def draw(self, trial: Trial, name: str) -> float:
        """One of them."""
        return quantised(trial.suggest_float(name, self.low, self.high, log=self.log), self.q)

    def grid(self) -> list[Any] | None:
        """The multiples of q from the lower bound on; wandb has a grid of no other range."""
        if self.q is None or self.log:
            return None
        steps = math.floor((self.high - self.low) / self.q + 1e-9)
        return [min(self.low + step * self.q, self.high) for step in range(steps + 1)]


@dataclass(frozen=True)
class Inverse:
    """Any other distribution, as `value(u)` of a uniform u in (0, 1)."""

    value: Callable[[float], Any]
    q: float | None = None

    def draw(self, trial: Trial, name: str) -> Any:
        """The value at the trial's u; the ends, where a normal is infinite, are left out."""
        found = self.value(trial.suggest_float(name, 1e-9, 1 - 1e-9))
        return found if self.q is None else quantised(found, self.q)

    def grid(self) -> list[Any] | None:
        """None: no grid."""
        return None


def quantised(value: float, q: float | None) -> float:
    """The multiple of `q` nearest to `value`, without the last digits of binary fractions; whole if `q` is."""
    if q is None:
        return value
    found = round(value / q) * q
    return int(found) if isinstance(q, int) else float(f"{found:.12g}")


def parameter(name: str, content: Mapping[str, Any]) -> Parameter:
    """A parameter out of its entry in the file.

    Raises:
        UserError: if the entry is none of wandb's; names the parameter and what is wrong with it.
    """
    kind = content.get("distribution") or _kind(content)
    if kind not in _KEYS:
        described = f"distribution {kind!r}{nearest(str(kind), _KEYS)}" if kind else "no value, values, or min and max"
        raise UserError(f"parameter {name}: found {described}; expected one of wandb's: {', '.join(_KEYS)}")
    needed, allowed = _KEYS[kind]
    missing = [key for key in needed if key not in content]
    unknown = sorted(content.keys() - {*needed, *allowed, "distribution"})
    if missing or unknown:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has no {', '.join(unknown)}"
        raise UserError(f"parameter {name}: {kind} {wrong}; its keys are {', '.join((*needed, *allowed))}")
    try:
        return _build(kind, content)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"parameter {name}: {kind} with {dict(content)}: {error}") from None


def _kind(content: Mapping[str, Any]) -> str | None:
    """Distribution that wandb assumes for an entry that names none."""
    if "value" in content:
        return "constant"
    if "values" in content:
        return "categorical_w_probabilities" if "probabilities" in content else "categorical"
    if "min" in content and "max" in content:
        whole = all(isinstance(content[key], int) for key in ("min", "max"))
        return "int_uniform" if whole else "uniform"
    return None


def _build(kind: str, content: Mapping[str, Any]) -> Parameter:
    base = kind.removeprefix("q_")
    q = content.get("q", 1) if kind != base else None
    if q is not None and not q > 0:
        raise UserError("q should be above 0")
    if base == "constant":
        return Constant(content["value"])
    if base.startswith("categorical"):
        return _choice(content["values"], content.get("probabilities"))
    if base == "beta":
        return Inverse(_frozen(stats.beta(content.get("a", 1.0), content.get("b", 1.0))), q)
    if base in ("normal", "log_normal"):
        inverse = _frozen(stats.norm(content.get("mu", 0.0), content.get("sigma", 1.0)))
        return Inverse((lambda u: math.exp(inverse(u))) if base == "log_normal" else inverse, q)
    low, high = content["min"], content["max"]
    if low > high:
        raise UserError("min should be at most max")
    if base == "int_uniform":
        if low != int(low) or high != int(high):
            raise UserError("min and max should be whole numbers")
        return Integers(int(low), int(high))
    if base == "log_uniform":  # bounds of the natural logarithm
        low, high = math.exp(low), math.exp(high)
    elif base == "inv_log_uniform":  # bounds of the logarithm of the inverse
        low, high = math.exp(-high), math.exp(-low)
    log = base != "uniform"
    if log and low <= 0:
        raise UserError("min should be above 0")
    return Range(low, high, log, q)


def _choice(values: Any, probabilities: Any) -> Parameter:
    if not isinstance(values, list) or not values:
        raise UserError("values should be a list with something in it")
    if probabilities is None:
        return Choice(tuple(values))
    if len(probabilities) != len(values) or min(probabilities) < 0 or not math.isclose(sum(probabilities), 1.0):
        raise UserError("probabilities should be one for each value, none negative, and sum to 1")

    def chosen(u: float) -> Any:
        reached = 0.0
        for value, probability in zip(values, probabilities, strict=True):
            reached += probability
            if u < reached:
                return value
        return values[-1]  # u above a sum that rounding left just under 1

    return Inverse(chosen)


def _frozen(distribution: Any) -> Callable[[float], float]:
    """The inverse distribution function of a scipy distribution.

    Raises:
        UserError: if its sizes are none, such as a negative sigma.
    """
    if math.isnan(distribution.ppf(0.5)):
        raise UserError("not a distribution; sigma, a and b should be above 0")
    return lambda u: float(distribution.ppf(u))
