"""What operators ask for: status, verify, resync, selftest, metrics."""
