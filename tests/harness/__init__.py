"""What the tests share: private servers, processes that are watched, and waiting with a deadline."""
