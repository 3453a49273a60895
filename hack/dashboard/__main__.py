"""`make format` writes the chart's dashboard with this command."""

from hack.dashboard.grafana import FILE, dashboard_json

if __name__ == "__main__":
    FILE.write_text(dashboard_json())
