"""Where targets come from, each way in a file of its own."""
