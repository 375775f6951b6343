"""From a decision to the alert document that a person reads."""
