"""Where rows come from: a file a source."""
