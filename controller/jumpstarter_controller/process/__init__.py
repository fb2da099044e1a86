"""What controller and router need as processes: data folder, certificates, log, listeners, start and end."""
