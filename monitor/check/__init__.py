"""`ganwatch check`: tries everything that the daemon will need, and says for each part what is wrong and how to mend it."""
