"""Checks of a head's checkpoint against the backbone, adapter and classes at hand.

Entries other than Lightning's: `backbone` (`src.backbones.identity`), `adapter` (its record, or None; its tensors are
in the state), `classes` (`ids`, `names`), `input_size`, `versions`. Plain values, readable with `weights_only`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from src.backbones.backbone import Backbone
from src.backbones.identity import UNTOUCHED, described, differing, identity, install_recorded
from src.core.errors import UserError

LIBRARIES = ("torch", "timm")


def versions() -> dict[str, str]:
    """Versions of the libraries that affect features."""
    return {library: version(library) for library in LIBRARIES}


def check_recorded(checkpoint: Mapping[str, Any]) -> None:
    """Check that a checkpoint records what its head was trained for.

    Raises:
        UserError: If not: it is another kind of checkpoint, or from an earlier version.
    """
    missing = [key for key in ("backbone", "adapter", "classes") if key not in checkpoint]
    if missing or not isinstance(checkpoint["backbone"], Mapping):
        raise UserError(
            "the checkpoint does not say which features its head was made for (expected entries backbone, adapter "
            f"and classes, found none of the name {', '.join(missing) or 'backbone'}): it is not a head's checkpoint, "
            "or an earlier version wrote it; fit the head again"
        )


def check_backbone(checkpoint: Mapping[str, Any], backbone: Backbone) -> None:
    """Check that the head was trained on these weights, with the same reading and normalisation.

    Raises:
        UserError: With both values of every difference.
    """
    if told := differing(checkpoint["backbone"], identity(backbone)):
        raise UserError(
            f"the checkpoint was made for the backbone {told[0]}, and this one is {told[1]}; use the config.yaml "
            "in the checkpoint's run folder, without flags that change the backbone"
        )


def bring_adapter(
    checkpoint: Mapping[str, Any], backbone: Backbone, here: Mapping[str, Any] | None, resumes: bool
) -> bool:
    """Install a checkpoint's adapter, if the backbone has none.

    Args:
        checkpoint: Its tensors are loaded later, with the rest of the state.
        backbone: Changed in place.
        here: Record of the configuration's adapter, or None.
        resumes: True for a resumed fit, whose configuration must name the same adapter.

    Returns:
        True if an adapter was installed.

    Raises:
        UserError: If the configuration gives another adapter, or one although the head had none; with both.
    """
    made_for = checkpoint["adapter"]
    if made_for == here:
        return False
    if made_for is not None and not resumes:
        if here is None:
            install_recorded(backbone, made_for)
            return True
        if here == {**made_for, "tensors": UNTOUCHED}:  # no separate file; its values come with the state
            return False
    advice = "drop the adapter from the configuration, since the checkpoint holds its own, or name the file of the fit"
    if made_for is None:
        advice = "drop the adapter from the configuration, or fit a head with it"
    if resumes:
        advice = "resume with the config.yaml in the checkpoint's run folder, and the adapter file as it was"
    raise UserError(
        f"the checkpoint was made with {described(made_for)}, and this configuration gives {described(here)}; {advice}"
    )


def check_classes(made_for: Mapping[str, Any], ids: list[int], names: list[str]) -> None:
    """Check that the head's classes are those of the data.

    Raises:
        UserError: With the ids or the names of both.
    """
    for what, theirs, ours in (("ids", made_for["ids"], ids), ("names", made_for["names"], names)):
        if list(theirs) != list(ours):
            raise UserError(
                f"the checkpoint's head knows the classes with {what} {list(theirs)}, and the data has {list(ours)}; "
                "use data of the same classes, or fit a head on these"
            )


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Check that no tensor of a state holds NaN or infinity.

    Raises:
        UserError: With those that do.
    """
    broken = [name for name, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise UserError(
            f"the checkpoint holds NaN or infinite values in {', '.join(broken[:3])}"
            f"{f' and {len(broken) - 3} more tensors' if len(broken) > 3 else ''}: its training diverged; fit again "
            "with a lower learning rate or in higher precision"
        )


def warn_of_setting(checkpoint: Mapping[str, Any], input_size: list[int] | None) -> None:
    """Warn about another image size or other library versions than in training."""
    trained_at = checkpoint.get("input_size")
    if trained_at is not None and input_size is not None and trained_at != input_size:
        rank_zero_warn(
            f"the head was trained on images of {trained_at[0]}×{trained_at[1]} px and sees "
            f"{input_size[0]}×{input_size[1]} px now"
        )
    recorded = checkpoint.get("versions") or {}
    if changed := {name: now for name, now in versions().items() if recorded.get(name, now) != now}:
        told = ", ".join(f"{name} {recorded[name]} (now {now})" for name, now in changed.items())
        rank_zero_warn(f"the head was trained with {told}: scores may differ in the last digits")
