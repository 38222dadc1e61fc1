"""Whether the rows that a model answers are still like those it was made from."""
