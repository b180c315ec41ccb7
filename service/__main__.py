"""`python -m service` is `rowfleet`."""

from service.cli import main

main()
