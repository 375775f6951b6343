"""`ganwatch dead-letters`: looks at records that could not be scored, and sends repaired ones back."""
