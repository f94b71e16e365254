"""AdamW parameter groups, with one rule for weight decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from src.backbones.backbone import Backbone


def undecayed(module: nn.Module) -> set[int]:
    """Ids of the parameters in a module that never decay.

    Vectors and scalars (biases, norms, layer scales); a trunk's position embeddings, class tokens and registers; the
    parameters that a submodule's `no_weight_decay()` lists, as in timm. UDI's rule, with tokens and embeddings as in
    BEiT and MAE.
    """
    exempt = {id(parameter) for parameter in module.parameters() if parameter.ndim <= 1}
    for child in module.modules():
        if isinstance(child, Backbone):
            # a parameter of the trunk itself, not of a layer in it, is an embedding or a token
            exempt |= {id(parameter) for parameter in child.trunk.parameters(recurse=False)}
        if callable(named := getattr(child, "no_weight_decay", None)):
            names = set(named())
            exempt |= {id(parameter) for name, parameter in child.named_parameters() if name in names}
    return exempt


def parameter_groups(module: nn.Module, lr_factor: Callable[[str], float] = lambda name: 1.0) -> list[dict[str, Any]]:
    """Group every trainable parameter of a module by its factor on the learning rate and its weight decay.

    Args:
        module: The module to train.
        lr_factor: Factor on the learning rate, by parameter name in the module.

    Returns:
        Groups with `params`, `lr_factor` and `decayed`.
    """
    exempt = undecayed(module)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((lr_factor(name), id(parameter) not in exempt), []).append(parameter)
    return [
        {"params": parameters, "lr_factor": factor, "decayed": decayed}
        for (factor, decayed), parameters in groups.items()
    ]
