"""`rowfleet run`: on the store of this machine, and with --emulator on an embedded AWS endpoint."""
