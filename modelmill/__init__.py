"""modelmill: the smallest, fastest model that is good enough, searched, milled, served."""

__version__ = "0.1.0"
