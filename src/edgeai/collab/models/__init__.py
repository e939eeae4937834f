"""Segmentation models of the edge and the cloud: street nets, SAM, ONNX, TorchScript and transformers models."""
