"""Publishers: turn a camera, a file or a folder into entries of the queue."""
