"""What is to be written where: the configuration file, the declared tables and their templates."""
