"""What is kept of a session, in memory or in Redis."""
