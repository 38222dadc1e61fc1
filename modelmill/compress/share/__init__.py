"""Weight sharing: a few numbers stand for many weights, which the graph looks up when it is loaded."""
