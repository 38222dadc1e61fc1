"""The steps of the recipe in `mill.py`, one file each: look, defaults, grow, make, account."""
