"""An agent behind HTTP that finds the airport nearest to a city."""
