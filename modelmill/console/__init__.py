"""The pages for people, mounted by the service: what is served, and a place to try it."""
