"""The types of writes, a file each."""
