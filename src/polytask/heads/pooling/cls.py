from __future__ import annotations

from torch import Tensor

from polytask.packing import EncoderOutput

from .base import LayerPooling, mean_of, poolings


@poolings.register("cls")
class Cls(LayerPooling):
    """The encoder's pooler: tanh(W h_cls + b) of the first token for BERT (Devlin et al. 2018), the last states of an LSTM."""

    uses_pooler = True

    def forward(self, output: EncoderOutput) -> Tensor:
        last = len(output.layers) - 1
        if self.reads(last) == [last]:
            return output.pooled().float()
        return output.pooled(mean_of(self.chosen(output))).float()
