"""What to try, and what was learned."""
