"""``python -m chunkfilt`` is the command line."""

from chunkfilt.cli import main

main()
