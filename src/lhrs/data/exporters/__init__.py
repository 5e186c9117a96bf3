"""Formats that datasets are exported to, one file each; see `lhrs.data.export.Exporter`."""
