"""The pipeline config schema; `pipeline_pb2` is generated from pipeline.proto by `make protos`."""
