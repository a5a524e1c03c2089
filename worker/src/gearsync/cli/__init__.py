"""The command gearsync, a file for each subcommand."""
