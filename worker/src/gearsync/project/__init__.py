"""From a change to Redis commands, and from a row to what Redis should hold for it."""
