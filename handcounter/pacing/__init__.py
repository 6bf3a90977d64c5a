"""When a frame of a stream may be processed: the rule, and what both ends of a call accept. Pure."""
