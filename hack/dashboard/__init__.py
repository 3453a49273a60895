"""The Grafana dashboard of the chart: what it shows, and how that becomes the JSON that Grafana reads."""
