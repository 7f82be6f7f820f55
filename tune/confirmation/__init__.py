"""The confirmation of a search by cross-validation, and what is exported in its end."""
