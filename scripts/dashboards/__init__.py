"""The Grafana dashboards of deploy/grafana/dashboards, written with Grafana's typed builders."""
