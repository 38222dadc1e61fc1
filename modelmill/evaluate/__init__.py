"""Evaluation: what a served model is worth and what it costs, and the report that a person looks at."""
