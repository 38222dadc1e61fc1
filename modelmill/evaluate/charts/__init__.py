"""The report's pictures as plain SVG text: no script, no fonts, no links; colors come from the page's style."""
