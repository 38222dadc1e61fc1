"""Answers for files larger than memory, a block of rows at a time, by a run that may be killed and goes on."""
