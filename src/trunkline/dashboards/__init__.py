"""What people see: dashboards and rules as code, rendered to the files that Grafana and AMP take."""
