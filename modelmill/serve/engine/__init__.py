"""What runs models: sessions, threads, and who waits for them."""
