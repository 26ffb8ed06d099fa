"""Long work, split into parts that are computed once on several processes."""
