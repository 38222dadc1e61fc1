"""What the service tells of itself: figures, logs, traces."""
