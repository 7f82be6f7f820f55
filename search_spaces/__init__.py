"""Search spaces that `python -m tune.search --space NAME` knows by name."""
