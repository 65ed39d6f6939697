"""The report: one HTML file that shows what a correction did, and whether it is right."""
