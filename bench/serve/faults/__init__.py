"""Faults that are done to a running service, one at a time: each tells what the service said to it.

They are the request side of faults.md as far as it applies to a service: what clients send, how they leave, what they
may not, connections and HTTP/2 that mean no good, and changes that are made meanwhile. `n` is how often a fault was
done before; by it bodies, names and keys differ, so that what is kept of each would show.

What is said is a status (`400`), one of gRPC (`grpc 3`), the error that ends a connection of HTTP/2 (`goaway 11`), or
`closed`, `reset`, `silence`.
"""
