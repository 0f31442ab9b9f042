"""What one sees of a run: log, progress, TensorBoard, trace, report."""
