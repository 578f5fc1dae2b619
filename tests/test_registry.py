"""Open rooms: members are found because their files lie there, and their options are checked by name and type."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polytask.errors import RecipeError, UserError
from polytask.recipe.rooms import ROOMS
from polytask.registry import Registry

MEMBER = '''
from __future__ import annotations

from typing import Literal

from {package}.base import room


@room.register("{name}")
class {name}:
    """The {name} of the room.

    More about it.
    """

    def __init__(self, width: int, *, size: int, shape: Literal["round", "square"] = "round", rate: float = 0.5) -> None:
        if size < 0:
            raise ValueError(f"size is {{size}}; it is at least 0")
        self.given = (width, size, shape, rate)
'''


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[Any]]:
    """A room of its own in a folder of its own: its members are spoon and fork."""
    package = "drawer_of_the_registry_test"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "base.py").write_text(
        f"from polytask.registry import Registry\nroom = Registry('cutlery', '{package}')\n", encoding="utf-8"
    )
    for name in ("spoon", "fork"):
        (folder / f"{name}.py").write_text(MEMBER.format(package=package, name=name), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    base = __import__(f"{package}.base").base
    yield base.room
    for module in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[module]


def refusal(room: Registry[Any], name: str, **options: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        room.create(name, 1, **options)
    return str(caught.value)


def test_members_are_found_because_their_files_lie_there(room: Registry[Any]) -> None:
    assert room.names() == ["fork", "spoon"]


def test_options_arrive_converted_to_their_types(room: Registry[Any]) -> None:
    assert room.create("spoon", 7, size=3, rate=1).given == (7, 3, "round", 1.0)
    assert type(room.create("spoon", 7, size=3, rate=1).given[3]) is float


def test_an_unknown_member_is_told_the_nearest_and_all(room: Registry[Any]) -> None:
    assert refusal(room, "spon") == (
        "'spon' is not one of the cutlery. Did you mean 'spoon'? There are 'fork' and 'spoon'."
    )


def test_an_unknown_option_is_told_the_nearest_and_all(room: Registry[Any]) -> None:
    assert refusal(room, "spoon", size=1, shpae="round") == (
        "'spoon' of the cutlery takes no option 'shpae'. Did you mean 'shape'? It takes 'size', 'shape' and 'rate'."
    )


def test_parts_that_the_builder_hands_in_are_no_options(room: Registry[Any]) -> None:
    assert "takes no option 'width'" in refusal(room, "spoon", size=1, width=3)
    assert list(room.options("spoon")) == ["size", "shape", "rate"]


@pytest.mark.parametrize(("key", "value"), [("size", "big"), ("size", 1.5), ("shape", "oval"), ("rate", [1])])
def test_an_option_of_the_wrong_type_is_told_with_its_value(room: Registry[Any], key: str, value: object) -> None:
    told = refusal(room, "spoon", **{"size": 1, key: value})
    assert told.startswith(f"option '{key}' of 'spoon' is {value!r}; wanted ")


def test_a_missing_option_is_named(room: Registry[Any]) -> None:
    assert refusal(room, "spoon") == "'spoon' of the cutlery needs the option 'size'."


def test_what_a_constructor_refuses_is_told_as_the_recipes_mistake(room: Registry[Any]) -> None:
    assert refusal(room, "spoon", size=-1) == "'spoon' of the cutlery: size is -1; it is at least 0."


def test_a_name_is_given_once(room: Registry[Any]) -> None:
    spoon = room.member("spoon")
    assert room.register("spoon")(spoon) is spoon
    with pytest.raises(UserError, match="Two of the cutlery are called 'spoon': spoon of the module drawer"):
        room.register("spoon")(room.member("fork"))


def test_a_summary_is_the_first_line(room: Registry[Any]) -> None:
    assert room.first_line("fork") == "The fork of the room."


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.room)
def test_every_member_of_every_room_can_be_looked_up_and_explains_itself(room: Registry[Any]) -> None:
    assert room.names()
    for name in room.names():
        summary = room.first_line(name)
        assert summary.rstrip().endswith((".", ")")), f"{name}: {summary}"
        for option in room.options(name).values():
            assert option.annotation is not option.empty, f"{name}: {option}"


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.room)
def test_every_default_of_every_member_is_of_its_own_type(room: Registry[Any]) -> None:
    for name in room.names():
        defaults = {key: p.default for key, p in room.options(name).items() if p.default is not p.empty}
        needed = {"range": [0, 5]} if "range" in room.options(name) else {}
        assert room.check(name, {**defaults, **needed}).items() >= defaults.items()
