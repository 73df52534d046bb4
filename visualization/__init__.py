"""Looking into what was learned: functions on bare modules return records; `render` draws them."""
