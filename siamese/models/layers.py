"""A backbone as the layers that it is deep."""

from __future__ import annotations

from torch import nn

PLAIN = (nn.Sequential, nn.ModuleList)


def layers(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of ``backbone``, layer by layer from the images on, each once.

    Its children are its layers; a child that is a row of like blocks, as a transformer's encoder or a stage of a ResNet
    is, is as many layers as it has blocks. What is of no layer (class token, embedding of positions) is of the first.
    """
    first: list[nn.Parameter] = []
    found: list[list[nn.Parameter]] = []
    seen: set[int] = set()

    def new(module: nn.Module, *, below: bool) -> list[nn.Parameter]:
        fresh = [p for p in module.parameters(recurse=below) if id(p) not in seen]
        seen.update(map(id, fresh))
        return fresh

    def walk(module: nn.Module, *, cut: bool) -> None:
        if cut:
            first.extend(new(module, below=False))
            for child in module.children():
                walk(child, cut=_has_rows(child))
        elif parameters := new(module, below=True):
            found.append(parameters)

    walk(backbone, cut=True)
    return [[*first, *found[0]], *found[1:]] if found else [first]


def _has_rows(module: nn.Module) -> bool:
    """Whether ``module`` is a row of like blocks, or has one right below it."""
    return _is_row(module) or any(map(_is_row, module.children()))


def _is_row(module: nn.Module) -> bool:
    blocks = list(module.children())
    alike = len(blocks) > 1 and len({type(block) for block in blocks}) == 1
    return type(module) in PLAIN and alike and any(blocks[0].children())
