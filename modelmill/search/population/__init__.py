"""What samplers with a population share: survivors, children, niches, and points that numbers can move."""
