"""When a frame of a stream may be processed: the rule, and what both sides accept. Pure."""
