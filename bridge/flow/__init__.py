"""The two loops every workflow runs on: `reader` (feeds) and `writer` (keys). Neither knows Kafka, Dynamics or Campaign."""
