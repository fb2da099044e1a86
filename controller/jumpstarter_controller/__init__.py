"""Controller and router: leases, and the streams that run through them. Not yet implemented."""
