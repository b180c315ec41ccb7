"""A classifier, called as a Python function, that tells what a dictionary definition defines."""
