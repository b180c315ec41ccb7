"""The scaler: once a minute it sets the number of tasks of every service, from and to zero."""
