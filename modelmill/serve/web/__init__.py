"""The service over HTTP: paths, bodies and answers."""
