"""The workers' tables in MySQL: changes, leases, declarations, synced tables, dead letters."""
