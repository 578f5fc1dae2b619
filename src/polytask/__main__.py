"""``python -m polytask`` is ``polytask``."""

from polytask.cli.main import main

main()
