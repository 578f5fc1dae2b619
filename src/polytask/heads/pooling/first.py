from __future__ import annotations

from torch import Tensor

from polytask.packing import EncoderOutput

from .base import LayerPooling, mean_of, poolings


@poolings.register("first")
class First(LayerPooling):
    """The first token's vector, [CLS] as it leaves the layer, without the pooler (Reimers & Gurevych 2019, §3)."""

    def forward(self, output: EncoderOutput) -> Tensor:
        return mean_of([output.wrap(layer_PD).first() for layer_PD in self.chosen(output)])
