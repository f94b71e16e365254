"""One sentence of advice after the verdict."""

from __future__ import annotations

from src.commands.adapt.outcome import Outcome

FEW = 30  # fewer labelled images give a wide interval (our choice)


def advice(outcome: Outcome, kinds: str | None = None) -> str:
    """Advise what to do next: more images, more seeds, fewer steps, another preset, or stop here.

    Args:
        outcome: The verdict.
        kinds: The sentence of `two_kinds`, if there is one.
    """
    if outcome.averaging == "better":
        return "Average the frozen model over flips and scales instead: it scores higher and needs no training."
    if outcome.word == "helped":
        return "Use the adapter; a second run with another --seed and --out shows whether the gain repeats."
    if kinds is not None:
        return "Split the folder into its two kinds, and adapt to each of them."
    if outcome.word == "no sign of harm":
        return "Label ten images or more and give --masks: without masks there is no way to tell whether it helped."
    part = _best_part(outcome)
    if part is not None:
        return f"Try the adapter at reduced strength on other images: adapter_scale={part:g} scores best on these."
    if outcome.word in ("harmed", "broken"):
        return "Use the frozen model, or try again with half as many steps (--max_steps) in another --out."
    if outcome.word == "inconclusive" and outcome.images < FEW:
        return f"Label more images: {outcome.images} are too few to tell a change of this size from chance."
    if outcome.averaging == "helps":
        return "Average the frozen model over flips and scales: that helps and needs no training."
    return "Keep the frozen model, or try the other preset (--method) in another --out."


def _best_part(outcome: Outcome) -> float | None:
    """The strength, if any, that beats both frozen and adapted under both probes."""
    inner = {scale: values for scale, values in outcome.strengths.items() if 0 < scale < 1}
    ends = [outcome.strengths[end] for end in (0.0, 1.0) if end in outcome.strengths]
    better = [
        scale
        for scale, values in inner.items()
        if all(values[name] > end[name] for end in ends for name in ("miou", "whitened_knn"))
    ]
    return max(better, key=lambda scale: inner[scale]["miou"], default=None)
