"""Gathering items into batches, and splitting a failing batch. Knows neither rows nor providers."""
