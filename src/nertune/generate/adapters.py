"""Several LoRA adapters on one base model: each row of a call has its own low-rank part, or none.

The base model's weights stay as they are. Tokens of sequences with different adapters go through it in one call; what an
adapter adds is computed on its own rows alone, as they lie, so it costs what it would cost by itself, and no other row
ever sees it (Punica, Chen et al. 2023, arXiv 2310.18547, and S-LoRA, Sheng et al. 2023, arXiv 2311.03285, do so on GPUs).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nertune.errors import RunError
from nertune.generate.lora import LowRank, read_lora
from nertune.models.fitting import check_tensors, targeted_layers
from nertune.models.matmul import matmul_nt
from nertune.safety import read_adapter_config

__all__ = ["Adapters"]


class Adapters:
    """Adapters by name, from the folders that PEFT wrote, beside the weights of a causal language model of transformers.

    They add nothing outside `answering` and `answering_rows`. Raises RunError for a folder that is damaged or unsafe, for
    adapters that are more than low-rank products, and for those of another base model.
    """

    def __init__(self, model: Any, folders: Mapping[str, str | Path]) -> None:
        self.names = tuple(folders)
        self._rows: list[tuple[str, slice]] = []
        modules = dict(model.named_modules())
        head = model.get_output_embeddings()
        layers: dict[str, dict[str, LowRank]] = {}
        for name, folder in folders.items():
            parts = read_lora(folder)
            for path, part in parts.items():
                _check_fits(Path(folder), path, part, modules.get(path), head)
                a_RI, b_OR = (matrix.to(model.device, model.dtype) for matrix in (part.a_RI, part.b_OR))
                if not bool(a_RI.isfinite().all() and b_OR.isfinite().all()):
                    raise RunError(
                        f"{folder}: the adapter's numbers for {path} are too large for {model.dtype}; use float32"
                    )
                layers.setdefault(path, {})[name] = LowRank(a_RI, b_OR, part.scale)
            expected = targeted_layers(model, read_adapter_config(Path(folder)).value)
            check_tensors(Path(folder), expected=_tensors(expected), found=_tensors(parts))
        for path, parts in layers.items():
            modules[path].register_forward_hook(partial(self._add, parts))

    @contextmanager
    def answering(self, name: str | None) -> Iterator[None]:
        """Within the context an adapter, or with None the base model alone, has all rows of every call."""
        with self._having([] if name is None else [(name, slice(None))]):
            yield

    @contextmanager
    def answering_rows(self, counts: Iterable[tuple[str | None, int]]) -> Iterator[None]:
        """Within the context the rows of a call are, from the first, `count` of this adapter, `count` of that, ...

        Rows that are not counted are padding, which nobody looks at.
        """
        rows: list[tuple[str | None, slice]] = []
        start = 0
        for name, group in groupby(counts, key=lambda item: item[0]):
            stop = start + sum(count for _, count in group)
            rows.append((name, slice(start, stop)))
            start = stop
        if len(rows) == 1:  # the padding with them: products of round shapes are the faster ones
            rows = [(rows[0][0], slice(None))]
        with self._having([(name, part) for name, part in rows if name is not None]):
            yield

    @contextmanager
    def _having(self, rows: list[tuple[str, slice]]) -> Iterator[None]:
        self._rows = rows
        try:
            yield
        finally:
            self._rows = []

    def _add(self, parts: Mapping[str, LowRank], module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        """A forward hook of one layer: its output gets the low-rank parts, in place."""
        if not self._rows:
            return
        x_SI, y_SO = inputs[0].flatten(0, -2), output.view(-1, output.shape[-1])
        for name, rows in self._rows:
            if name in parts:
                a_RI, b_OR, scale = parts[name]
                inner_SR = matmul_nt(x_SI[rows], a_RI)
                y_SO[rows].addmm_(inner_SR, b_OR.T, alpha=scale)


def _tensors(layers: Iterable[str]) -> set[str]:
    """The names of the layers' tensors in PEFT's file."""
    return {f"base_model.model.{layer}.lora_{side}.weight" for layer in layers for side in "AB"}


def _check_fits(folder: Path, path: str, part: LowRank, module: Any, head: nn.Module) -> None:
    """Raises RunError where a low-rank part does not belong to a module, None where the base model has none of that name."""
    from transformers.pytorch_utils import Conv1D

    if module is None:
        raise RunError(f"{folder}: the adapter was made for another base model: this one has no {path:.200}")
    if module is head:
        raise RunError(
            f"{folder}: the adapter changes the output layer ({path}), so it cannot be served beside others or its base "
            "model. Serve it alone, merged"
        )
    if isinstance(module, Conv1D):
        shape = (module.nx, module.nf)
    elif hasattr(module, "in_features") and hasattr(module, "out_features"):  # also those that hold quantized weights
        shape = (module.in_features, module.out_features)
    else:
        raise RunError(
            f"{folder}: the adapter changes {path}, which is no linear layer but a {type(module).__name__}, so it cannot "
            "be served beside others or its base model. Serve it alone, merged"
        )
    found = (part.a_RI.shape[1], len(part.b_OR))
    if found != shape:
        raise RunError(
            f"{folder}: the adapter was made for another base model: {path} turns {found[0]} numbers into {found[1]} "
            f"there, and {shape[0]} into {shape[1]} here"
        )
