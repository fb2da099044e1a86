"""The version before and this one work together: controller, exporter and client in every mix of both."""
