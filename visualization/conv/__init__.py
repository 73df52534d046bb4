"""Looking into convolutional networks: functions on bare modules that return records."""
