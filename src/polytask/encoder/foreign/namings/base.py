"""What a naming says: the keys of a config and the names of tensors, beside our own."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from polytask.registry import Registry


class Naming(ABC):
    """How the checkpoints of one ``model_type`` spell a BERT. All that a member says is tables, read in both directions.

    - ``modules``: our module -> theirs, whose rows are stacked in ours; ``{}`` stands for a layer's number. A module of
      ours that has none of theirs starts as zeros (token types, where a family has none).
    - ``prefix``: what stands before every name in files of a model with a head.
    - ``sizes``: our sizes -> keys of the config; those in ``optional`` may be left out. ``fixed`` are sizes that the
      family has no key for.
    - ``epsilon``, ``activation``, ``dropout``, ``attention_dropout``: further keys.
    - ``unused_positions``: rows at the top of the table of positions that no token ever has.
    - ``language_prefix``, ``language_head``, ``word_table``: the head of a masked language model, our names -> theirs
      below the prefix, and the table that it is tied to; no prefix where the family has no such head that we read.
    - ``also``: what a config states beside, when one is written.
    """

    model_type: ClassVar[str]
    modules: ClassVar[Mapping[str, tuple[str, ...]]]
    sizes: ClassVar[Mapping[str, str]]
    prefix: ClassVar[str] = ""
    optional: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[Mapping[str, int]] = MappingProxyType({})
    epsilon: ClassVar[str] = "layer_norm_eps"
    activation: ClassVar[str] = "hidden_act"
    dropout: ClassVar[str] = "hidden_dropout_prob"
    attention_dropout: ClassVar[str] = "attention_probs_dropout_prob"
    unused_positions: ClassVar[int] = 0
    language_prefix: ClassVar[str] = ""
    language_head: ClassVar[Mapping[str, str]] = MappingProxyType({})
    word_table: ClassVar[str] = ""
    also: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """Say whether a config is of this family."""
        return bool(config.get("model_type") == self.model_type)

    def objection(self, config: Mapping[str, Any]) -> str:
        """Return what makes a checkpoint of this family none that we can read, as the end of a sentence; or nothing."""
        return ""

    def plain(self, name: str) -> str:
        """Return a stored tensor's name without the prefix and in today's spelling."""
        return name.removeprefix(self.prefix)


namings: Registry[Naming] = Registry("namings", "polytask.encoder.foreign.namings")
