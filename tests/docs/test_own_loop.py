"""The loop in docs/own-loop.md runs as it stands, and learns its four sentences by heart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

PAGE = Path(__file__).parents[2] / "docs" / "own-loop.md"


def test_it_runs_as_it_stands() -> None:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    kind, batch = names["tasks"]["mood"], names["batch"]
    told = [kind.names[code] for code in names["mood"].codes]
    assert told == [names["labels"]["mood"][row] for row in batch.rows]
