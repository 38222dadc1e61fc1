"""What the command line can do: a file a verb, or a group of verbs."""
