"""Words for the two pair tasks: concepts, each with the words that stand for it, and scenes where they make sense."""

from __future__ import annotations

from dataclasses import dataclass

from .grammar import Split

Concept = tuple[str, ...]
"""Words for one thing; any of them may stand for it."""

AGENTS: dict[Split, tuple[Concept, ...]] = {
    "train": (
        ("boy", "lad"),
        ("woman", "lady"),
        ("doctor", "physician"),
        ("actor", "performer"),
        ("professor", "academic"),
        ("robber", "thief"),
        ("student", "pupil"),
    ),
    "dev": (
        ("man", "guy"),
        ("child", "kid"),
        ("teacher", "instructor"),
        ("attorney", "solicitor"),
        ("king", "monarch"),
        ("policeman", "cop"),
    ),
}

PLACES: dict[Split, tuple[Concept, ...]] = {
    "train": (
        ("on the street", "on the road"),
        ("at the beach", "at the seaside"),
        ("in the kitchen",),
        ("in the city", "in the town"),
        ("at the airport",),
        ("in the library",),
    ),
    "dev": (
        ("in the forest", "in the woods"),
        ("at the office", "at the workplace"),
        ("in the garden", "in the yard"),
        ("on the mountain",),
        ("in the hospital", "in the clinic"),
    ),
}


@dataclass(frozen=True)
class Scene:
    """Actions that make sense with the same objects."""

    actions: tuple[Concept, ...]
    objects: tuple[Concept, ...]


SCENES: dict[Split, tuple[Scene, ...]] = {
    "train": (
        Scene(
            (("repaired", "fixed"), ("washed", "cleaned"), ("purchased", "bought")),
            (("car", "automobile"), ("bicycle", "bike"), ("lorry", "truck"), ("boat", "ship")),
        ),
        Scene(
            (("cooked", "prepared"), ("devoured", "gobbled"), ("tasted", "sampled")),
            (("soup", "broth"), ("biscuits", "cookies"), ("prawns", "shrimp"), ("steak", "beef")),
        ),
        Scene(
            (("read", "studied"), ("composed", "penned"), ("lost", "misplaced")),
            (("letter", "note"), ("novel", "book"), ("essay", "paper"), ("diary", "journal")),
        ),
        Scene(
            (("smashed", "shattered"), ("wrapped", "bundled"), ("stained", "soiled")),
            (("cup", "mug"), ("plate", "dish"), ("bottle", "flask"), ("picture", "image")),
        ),
        Scene(
            (("cancelled", "scrapped"), ("organized", "arranged"), ("enjoyed", "relished")),
            (("party", "celebration"), ("meeting", "conference"), ("trip", "journey"), ("game", "match")),
        ),
        Scene((("helped", "assisted"), ("praised", "complimented"), ("followed", "trailed")), AGENTS["train"]),
    ),
    "dev": (
        Scene(
            (("sewed", "stitched"), ("mended", "patched"), ("ripped", "shredded")),
            (("jacket", "coat"), ("trousers", "pants"), ("hat", "cap"), ("sweater", "jumper")),
        ),
        Scene(
            (("carried", "hauled"), ("found", "discovered"), ("discarded", "dumped")),
            (("bag", "sack"), ("box", "crate"), ("parcel", "package"), ("gift", "present")),
        ),
        Scene(
            (("built", "constructed"), ("demolished", "destroyed"), ("decorated", "adorned")),
            (("house", "home"), ("shed", "hut"), ("store", "shop"), ("wall", "barrier")),
        ),
        Scene((("rescued", "saved"), ("deceived", "tricked"), ("phoned", "telephoned")), AGENTS["dev"]),
    ),
}
"""Past tense and participle of each action are one form, so that a passive is only a frame.
No word stands in both splits."""
