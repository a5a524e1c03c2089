"""MySQL, Redis and the job servers: connections, requests, and what their errors mean."""
