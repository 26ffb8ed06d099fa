"""Long work as parts that are computed once, on several processes."""
