"""Systems that carry changes from MySQL to Redis, and the work that each of them gets."""
