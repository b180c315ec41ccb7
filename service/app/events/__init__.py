"""Settings of events, and the receivers that are built from them."""
