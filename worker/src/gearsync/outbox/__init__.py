"""What stands in MySQL for the workers: changes, leases, declarations, synced tables, dead letters."""
