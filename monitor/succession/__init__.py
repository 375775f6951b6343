"""Who scores: follows the registry's promotions, watches a new champion, goes back when it is bad."""
