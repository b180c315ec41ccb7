"""What a process answers over HTTP: health now, the status page later."""
