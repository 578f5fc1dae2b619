"""What a task may be called. Of a run folder's recipe this is asked again, whoever wrote it: names become names of files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import combinations

from torch import nn

from polytask.model import SHARED
from polytask.recipe.reading import Problem
from polytask.recipe.settings import Recipe

_LONGEST_NAME = 100


def name_rules(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with the names of tasks."""
    for name, task in recipe.tasks.items():
        # A task's name is part of file names, and the name of a module in torch's ModuleDict.
        if len(name.encode()) > _LONGEST_NAME:
            yield f"tasks.{name[:20]}…", f"a task's name has at most {_LONGEST_NAME} letters."
        if not re.fullmatch(r"\w[\w-]*", name):
            yield f"tasks.{name}", "a task's name is made of letters, digits, '_' and '-'."
        elif hasattr(nn.ModuleDict(), name):
            sentence = f"'{name}' means something to torch; give the task another name, such as '{name}_task'."
            yield f"tasks.{name}", sentence
        if name == SHARED and task.encoder != SHARED:
            sentence = "an encoder of its own would be called 'shared', as the common one is; rename the task."
            yield f"tasks.{name}.encoder", sentence
    for one, other in combinations(recipe.tasks, 2):
        if _folded(one) == _folded(other):
            sentence = f"differs from '{one}' only in case: on some disks their files would be the same."
            yield f"tasks.{other}", sentence


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
