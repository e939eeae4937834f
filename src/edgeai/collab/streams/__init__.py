"""Frame streams: recorded folders and videos, and drift applied to them."""
