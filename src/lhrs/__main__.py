"""`python -m lhrs`."""

from lhrs.cli import main

main()
