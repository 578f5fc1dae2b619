"""What a recipe may say. A rule stands once: it looks at settings and yields ``(place, sentence)`` for what is wrong.

- What a member says of its own options stands in its constructor; ``members`` asks each one once.
- ``encoder``: the encoder's table, and what a recipe asks of an encoder that it has not.
- ``names``: what tasks are called.
- ``task``: one task, alone or beside the tasks that it borrows from.
- ``stage``: one stage and its tasks.

What only tables or a built model can tell (a stage too long, a task that nothing trains) is said where they are at hand.
"""
