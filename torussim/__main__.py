"""`python -m torussim`."""

from torussim.cli import main

main()
