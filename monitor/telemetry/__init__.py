"""What the daemon shows of itself: metrics and the HTTP endpoints."""
