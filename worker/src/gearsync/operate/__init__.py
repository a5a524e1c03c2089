"""What operators use: status, verify, resync, selftest, metrics."""
