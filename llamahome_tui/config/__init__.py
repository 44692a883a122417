"""Where things live, settings, environment and secrets; nothing here changes a file without being asked to."""
