"""Use cases: what the page, the command line, HTTP and reports ask for. Plain data in, plain data out."""
