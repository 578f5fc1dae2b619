"""The member that docs/extending.md shows is one: a folder with it brings it along."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from polytask import registry

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
CODE = """
import sys, torch, polytask
polytask.load_members(sys.argv[1])
print(polytask.room("poolings").create("half_mean", 4).width, polytask.room("poolings").origin("half_mean"))
"""


def test_the_entry_point_is_the_one_that_is_looked_for() -> None:
    (block,) = re.findall(r"```ini\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert tomllib.loads(block)["project"]["entry-points"] == {registry.GROUP: {"mine": "my_package.members"}}


def test_the_member_on_the_page_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "mine.py").write_text(block, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))}
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"4 {tmp_path}/mine.py (")
