"""The state of the pipeline at this moment, for `gearsync status` and the exporter."""
