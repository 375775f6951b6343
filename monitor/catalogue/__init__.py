"""`ganwatch models`: what a registry holds, shown and changed by people."""
