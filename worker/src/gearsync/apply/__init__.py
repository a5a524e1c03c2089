"""Applying changes: from the outbox, and from jobs of direct delivery."""
