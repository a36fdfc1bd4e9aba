"""What the runtime tells about itself: metrics, JSON logs, the loop's heartbeat. May import settings and model."""
