"""`ganwatch replay`: scores history with the live code, beside the running group."""
