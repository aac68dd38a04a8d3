"""A run or a study as one page to read."""
