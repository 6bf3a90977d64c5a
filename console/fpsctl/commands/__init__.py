"""The commands of fpsctl, a file for each or for a few that belong together."""
