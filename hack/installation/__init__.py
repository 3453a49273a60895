"""The operator installed as its users have it: by the chart, or as a process with the chart's rights."""
