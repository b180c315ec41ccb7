"""The composition root: settings to clients to ports to roles, and the process that plays them."""
