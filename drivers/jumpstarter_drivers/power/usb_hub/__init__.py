"""Power of one port of a USB hub: what hubs say (`protocol`), which ports there are (`topology`), and switching."""
