"""Publishers: from a camera, a file or a folder to entries of the queue."""
