"""Ask images questions: tasks over a small runtime protocol, with confidence and out-of-distribution detection."""
